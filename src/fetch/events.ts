import type { Upstream } from '../http/upstream.ts';
import type { StorePath } from '../nix/brands.ts';
import type { Closure } from './walk/closure.ts';
import type { Plan } from './plan/plan.ts';
import type { Warning } from '../warning.ts';

/** Kinds of senders of NAR bytes. */
export type ByteSource = 'peers' | 'upstream';

/**
 * Groups of senders, for people: members on the local network, members beyond it, ordinary BitTorrent clients, and binary
 * caches.
 */
export type SenderGroup = 'neighbours' | 'cohort' | 'clients' | 'caches';

/** Bytes of a NAR that have come from one sender. */
export interface Received {
  readonly source: ByteSource;
  readonly group: SenderGroup;
  /** True if they came over the local network. */
  readonly isNear: boolean;
  /** `host:port` of a peer, or the base URL of an upstream. */
  readonly origin: string;
  /** Names the NAR, as in `nar-fetched`. */
  readonly nar: string;
  readonly bytes: number;
}

/** An event of a fetch. The progress display, the report and the log read only these. */
export type FetchEvent =
  /** A fetch begins. One fetch may walk and plan several times. */
  | { readonly type: 'begun' }
  /** Hash maps are looked for, for that time at most, since only they know a root. */
  | { readonly type: 'resolving'; readonly timeoutMs: number }
  | { readonly type: 'walking' }
  /** The fetch waits for a garbage collector that is running on the store. */
  | { readonly type: 'waiting-for-gc' }
  /** The plan is known. Nothing was downloaded yet. `partialBytes` of the planned NARs are held from earlier runs. */
  | { readonly type: 'planned'; readonly plan: Plan; readonly closure: Closure; readonly partialBytes: number }
  /** The download of a plan's NARs begins; `bytes` leaves out NARs of unknown size. */
  | { readonly type: 'downloading'; readonly nars: number; readonly bytes: number }
  /** Further NARs are not requested from the internet for now, since Nix waits for others. */
  | { readonly type: 'held-back' }
  /** Bytes of a NAR from an earlier run. They are not downloaded again. */
  | { readonly type: 'nar-kept'; readonly bytes: number }
  /** Payload that is not verified yet. */
  | ({ readonly type: 'nar-bytes' } & Received)
  /**
   * A NAR is verified and in the store. `cacheBytes`: bytes that a cache would have sent, if it has another file of the
   * NAR.
   */
  | { readonly type: 'nar-fetched'; readonly nar: string; readonly sizeBytes: number; readonly cacheBytes?: number }
  /** A NAR was made out of another one by a patch, which took the place of its file. */
  | { readonly type: 'nar-patched'; readonly patchBytes: number; readonly fileBytes: number }
  /** NARs and narinfos are on the disk and visible, with all their references. Others may still be arriving. */
  | { readonly type: 'committed'; readonly paths: readonly StorePath[] }
  /** The last NARs become visible. */
  | { readonly type: 'committing' }
  /** Number of paths that Nix is still to copy into a target. */
  | { readonly type: 'to-import'; readonly paths: number }
  /** Nix imports into a target. Undefined: this machine's default store. */
  | { readonly type: 'importing'; readonly to: string | undefined }
  /** Nix copies a path: into the target, while NARs of others may still be arriving, or out of its store. */
  | { readonly type: 'path-copied'; readonly path: string }
  /** Nix printed a line that is not about a single path. */
  | { readonly type: 'nix-line'; readonly line: string }
  /** A problem that another source makes up for. */
  | { readonly type: 'warning'; readonly warning: Warning };

/** Takes the events of a fetch. */
export type Tell = (event: FetchEvent) => void;

/** Makes the event of bytes from an upstream. One that was found on the local network never leads beyond it. */
export function bytesFrom({ name, isAnnounced }: Upstream, nar: string, bytes: number): FetchEvent {
  return { type: 'nar-bytes', source: 'upstream', group: 'caches', isNear: isAnnounced, origin: name, nar, bytes };
}
