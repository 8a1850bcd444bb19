/**
 * Problems that do not end a run, as facts: another source or a later attempt makes up for each. cli/ puts them into
 * words.
 */
import { failureOf, type Failure } from './failure.ts';
import type { BuildDifference } from './index/quorum.ts';

/** A reason to evict nothing from a store: the needs of the kept paths are not known. */
export type Obstacle =
  /** A kept path has no narinfo. `keeper`: the name of its subscription; undefined if it is pinned. */
  | { readonly kind: 'lost-root'; readonly path: string; readonly keeper: string | undefined }
  /** The narinfo of a kept path cannot be read. */
  | { readonly kind: 'unreadable-narinfo'; readonly storeHash: string }
  /** A kept path refers to a path without a narinfo. */
  | { readonly kind: 'lost-reference'; readonly storeHash: string; readonly reference: string };

export type Warning =
  /** A failure that is tried again later, or that the rest of the run does not need. */
  | { readonly kind: 'failed'; readonly error: Error }
  | { readonly kind: 'earlier-config'; readonly error: Error }
  /** A daemon of another machine or container serves the same store. */
  | { readonly kind: 'served-elsewhere'; readonly storeDir: string }
  /** Another daemon of this machine serves the same store. */
  | { readonly kind: 'served-twice'; readonly storeDir: string; readonly pid: string }
  /** The state of this process could not be reported to the service manager. */
  | { readonly kind: 'unheard'; readonly error: Error }
  | { readonly kind: 'unreadable-netrc'; readonly file: string; readonly reason: string }
  /** A cache is for another store directory, and is not asked. */
  | { readonly kind: 'other-store-dir'; readonly cache: string; readonly theirs: string; readonly ours: string }
  | { readonly kind: 'no-cache-info'; readonly cache: string; readonly isLocal: boolean }
  | { readonly kind: 'asked-last'; readonly cache: string; readonly error: Error }
  /** The program that decompresses NARs is missing. */
  | { readonly kind: 'unchecked-contents'; readonly error: Error; readonly of: 'store' | 'fetch' }
  /** A NAR of the store does not have the signed contents, and is not served. */
  | { readonly kind: 'wrong-contents'; readonly path: string }
  /** A NAR of the store is damaged; `add` exports its path again. */
  | { readonly kind: 'exported-again'; readonly path: string }
  /** A file of the store is damaged, and a fetch replaces it. */
  | { readonly kind: 'damaged-file'; readonly file: string; readonly path: string }
  /** Fetched bytes were wrong. */
  | { readonly kind: 'fetched-again'; readonly error: Error; readonly path: string }
  | { readonly kind: 'lying-peer'; readonly peer: string; readonly path: string }
  /** All upstreams failed. */
  | { readonly kind: 'peers-again'; readonly failures: readonly Failure[] }
  /** A NAR is fetched as another source describes it. */
  /** `source`: undefined if the same one is asked again, for a file with the contents and not of the name. */
  | { readonly kind: 'other-description'; readonly failure: Failure; readonly source: string | undefined }
  /** A patch could not be fetched or does not give its NAR, which is fetched whole; so are `others` that could not be fetched. */
  | { readonly kind: 'wrong-patch'; readonly path: string; readonly others: number; readonly failure: Failure }
  | { readonly kind: 'not-repaired'; readonly failure: Failure }
  | { readonly kind: 'nothing-evicted'; readonly obstacle: Obstacle }
  /** Nix cannot be asked which NARs it has, so none is let go of (`keep-imported`). */
  | { readonly kind: 'nothing-released'; readonly error: Error }
  /** Publishers have built a path with different results. */
  | { readonly kind: 'different-builds'; readonly difference: BuildDifference }
  /** A publisher has signed editions of two histories. `proof`: the folder with two of their manifests. */
  | { readonly kind: 'two-histories'; readonly publisher: string; readonly proof: string }
  /** A publisher does not answer; the kept hash map, signed at `created` (ISO 8601), is used. */
  | { readonly kind: 'kept-map'; readonly error: Error; readonly created: string }
  /** A publisher's mirror fails; the hash map that a member holds, signed at `created` (ISO 8601), is used. */
  | { readonly kind: 'member-map'; readonly error: Error; readonly created: string }
  /** This machine's own hash map no longer has contents. */
  | { readonly kind: 'map-withdrawn' }
  | { readonly kind: 'map-not-renewed'; readonly error: Error }
  | { readonly kind: 'pointer-not-put'; readonly error: Error }
  | { readonly kind: 'pointer-not-taken' }
  | { readonly kind: 'silent-dht'; readonly error: Error }
  | { readonly kind: 'failed-torrent'; readonly infoHash: string; readonly error: Error }
  | { readonly kind: 'failed-seed'; readonly infoHash: string; readonly error: Error }
  /** A suitcase is packed into a folder where a disk is to be mounted, and goes to the file system at `disk`. */
  | { readonly kind: 'nothing-mounted'; readonly dir: string; readonly disk: string }
  /** A warning came again, that often. */
  | { readonly kind: 'repeated'; readonly first: Warning; readonly count: number };

/** Takes warnings. */
export type Warn = (warning: Warning) => void;

/** Returns the facts of a warning as plain values. */
export function factsOf(warning: Warning): Readonly<Record<string, unknown>> {
  if ('first' in warning) return { ...warning, first: factsOf(warning.first) };
  return 'error' in warning ? { ...warning, error: failureOf(warning.error) } : warning;
}

/** Returns a thrown value as an error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
