import type { DirectionLimit } from '../bytes/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { MapBudget } from '../index/within-budget.ts';
import type { NarHash, StoreHash, StorePath } from '../nix/brands.ts';
import type { PublicKey } from '../nix/signature.ts';
import type { HeldNars } from '../serve/held-nars.ts';
import type { FileStore } from '../store/file-store.ts';
import type { PartialSession } from '../store/session.ts';
import type { Network } from '../swarm/network.ts';
import type { Closure, MissingPath } from './walk/closure.ts';
import type { Tell } from './events.ts';
import type { ImportWay } from '../nix/programs/import-way.ts';
import type { LooksInto } from './download/fetched-contents.ts';
import type { HashMaps, HashMapsContext, HashMapsOptions } from './sources/hash-maps.ts';
import type { NearSources } from './sources/near-sources.ts';
import type { Plan } from './plan/plan.ts';
import type { PrefetchResult } from './prefetch-result.ts';
import type { Room } from './room.ts';

/** The resources of a fetch. Their creator closes them. */
export interface PrefetchContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  /** Default: no limit. */
  readonly limit?: DirectionLimit | undefined;
  /** As in a scheduler (scheduler-options.ts). Default: never. */
  readonly isHeldBack?: (() => boolean) | undefined;
  /** Sorts the upstreams in the order of asking. Default: as given. */
  readonly orderUpstreams?: (upstreams: readonly Upstream[]) => Promise<readonly Upstream[]>;
  /** Returns hash maps that outlast this fetch. Default: it asks the publishers itself, and forgets their answers. */
  readonly sharedMaps?: (asked: HashMapsOptions, means: HashMapsContext) => HashMaps;
  /** Sources on the local network. Default: none. */
  readonly near?: readonly NearSources[];
  readonly tell: Tell;
  readonly signal: AbortSignal;
  /** Receives NARs that are in the store. Peers may want them before their narinfos are written. */
  readonly held?: HeldNars;
  /** Default: `auto`. */
  readonly importWith?: ImportWay | undefined;
  /** False to fetch every NAR whole. Default: patches make NARs out of earlier ones where that is sooner. */
  readonly deltas?: boolean | undefined;
}

export interface PrefetchOptions {
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  /** True to include every path of the publishers' hash maps, besides the roots. */
  readonly wholeMaps?: boolean;
  /** Limit on the NARs that are taken from each of those hash maps. Default: none. */
  readonly mapBudget?: MapBudget | undefined;
  /** The room for NARs. Only without an import. Default: unlimited. */
  readonly room?: StoreRoom | undefined;
  /** Limit on the bytes of NARs that are begun before the plan is made. Default: unlimited. */
  readonly earlyBytes?: number | undefined;
  /**
   * True to continue without missing paths and their referrers. {@link PrefetchResult.missing} lists them, also after
   * an interruption, and a failed import is in the result. If false (default), the walk ends with the first path
   * without a narinfo, and a path whose NAR cannot be fetched or imported ends the fetch after everything else is
   * imported.
   */
  readonly keepGoing?: boolean;
  readonly publishers: readonly PublisherAddress[];
  /** Publishers that must have a path with the same NarHash. Default: 1, which needs no publisher. */
  readonly require?: number | undefined;
  /**
   * The only NarHash that counts, for a single root without its references. Its narinfo needs no signature. Default: any
   * that is signed.
   */
  readonly narHash?: NarHash;
  /** Further publishers that count for `require`. Their hash maps are not used for anything else. Default: none. */
  readonly voters?: readonly PublisherAddress[];
  readonly upstreams: readonly Upstream[];
  /** Target of the import. Undefined: this machine's default store. */
  readonly to?: string | undefined;
  /** True to run `nix copy` at the end. */
  readonly copy: boolean;
  /**
   * Called before the import, with the paths whose closures are to be valid and the requested roots: GC roots that are
   * made now keep valid paths from now on, and the others as soon as they are valid. Its errors end the fetch.
   */
  readonly beforeImport?: ((tops: readonly StorePath[], wanted: readonly StoreHash[]) => Promise<void>) | undefined;
  /**
   * The part of the NARs that is decompressed before the end if there is no import. `nothing`: the caller checks each NAR
   * before it uses it. Default: `small`.
   */
  readonly looksInto?: LooksInto | 'nothing';
  /**
   * True if the store should also hold paths that the target has, in order to serve them. Default: only paths that the
   * target lacks.
   */
  readonly holdAll?: boolean;
  /** Names the paths whose NARs the store must hold. Only with `holdAll`. Default: all. */
  readonly wantedOf?: ((paths: readonly StorePath[]) => Promise<ReadonlySet<StorePath>>) | undefined;
  /**
   * True to write NARs that the file store has released again, from the Nix store of this machine, instead of fetching
   * them. The new files differ from those that a hash map names. Default: only for an import into another store.
   */
  readonly writesReleased?: boolean;
  /** True to accept a narinfo of the file store that no trusted key has signed, if no other source has a better one. */
  readonly trustsStore?: boolean;
  /**
   * Called with the plan before anything is downloaded, also by a dry run. If it throws, the fetch ends.
   *
   * @param missing paths without a good narinfo, with `keepGoing`
   */
  readonly onPlanned?: (closure: Closure, plan: Plan, missing: readonly MissingPath[]) => Promise<void>;
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly dryRun?: boolean | undefined;
  /** True to fetch only the roots, without their references, as far as possible. */
  readonly onlyRoots?: boolean;
  /** Milliseconds to look for the publishers. */
  readonly publisherTimeoutMs: number;
  /** Without an upstream: time without a byte from any peer until giving up, in milliseconds. Default 60,000. */
  readonly peerTimeoutMs?: number | undefined;
}

/** A store with a budget. */
export interface StoreRoom extends Pick<Room, 'inFlightBytes'> {
  /** Measures the store. Returns the bytes that the budget leaves. */
  readonly free: () => Promise<number>;
  /**
   * Removes paths outside of the fetched closure until the budget is met. Returns the bytes that it then leaves.
   *
   * @param held the NARs that have arrived so far
   */
  readonly make: (held: PrefetchResult) => Promise<number>;
}
