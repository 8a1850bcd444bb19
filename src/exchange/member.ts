import type { PeerRecord } from '../discovery/peer-table.ts';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import type { FileRange, Refusal } from './messages.ts';
import type { Claim } from './their-fetches.ts';
import type { PieceSet } from './piece-set.ts';

/**
 * What became of a request: all bytes came; the connection ended first; the member refused it, or the rest of it; `cancelled`
 * if the signal ended it.
 */
export type Outcome = 'complete' | 'closed' | Refusal;

/** Takes the next bytes of an answer, in order. They are lent: the buffer is overwritten when this returns. */
export type OnBytes = (bytes: Uint8Array) => void;

/** A file that this process looks for. */
export interface WantedFile {
  readonly file: FileHash;
  /** Its FileSize: without it, members are not asked for single pieces. */
  readonly sizeBytes?: number | undefined;
  /** True if only members that the scope admits may hear of it: no hash map lists it, or this process holds it. Default: all may. */
  readonly isScoped?: boolean | undefined;
}

/** A member that we are connected to: what it has of what we want, and what it can be asked. */
export interface Member {
  /** What is known of it over all connections: its merit, its rate, its silences. */
  readonly peer: PeerRecord;
  /** Tells it from all others, in hex. */
  readonly peerId: string;
  /** Address of its host, as node:net gives it. */
  readonly host: string;
  /** Whether it is on a network that this machine is on. */
  readonly isNeighbour: boolean;
  readonly isOpen: boolean;
  /** Requests of ours that are open. */
  readonly openRequests: number;
  /** Bytes that were asked for and are not here yet, those of cancelled requests too, until the member confirms. */
  readonly inFlightBytes: number;
  /** Milliseconds that it could have sent payload and did not; 0 if nothing is asked of it. */
  readonly silentMs: number;
  /** True if it has answered all questions what it has: only then a file that it is not known to have is absent. */
  readonly isKnown: boolean;
  /** What it has of a wanted file. */
  has(file: FileHash): 'whole' | PieceSet | undefined;
  /** Whether it looks for a file that we did not have when it said so. */
  wants(file: FileHash): boolean;
  /** What it says of a wanted file that it fetches from elsewhere; undefined if it does not, or is not to be believed. */
  fetching(file: FileHash): Claim | undefined;
  /**
   * Asks for a range. What it has at hand comes first, else answers come in the order of the requests. Never rejects.
   *
   * @param onBytes called for all bytes of the range, in order; not once `signal` is aborted
   */
  get(range: FileRange, onBytes: OnBytes, signal: AbortSignal): Promise<Outcome>;
  /**
   * Asks for whichever of these ranges the member has given away least; it leaves out those that it sends us already. Never
   * rejects.
   *
   * @param candidates of wanted files, the best first, at most MAX_ANY_CANDIDATES
   * @param on.picked called with the index of the range, before its bytes
   */
  any(
    candidates: readonly FileRange[],
    on: { readonly picked: (index: number) => void; readonly bytes: OnBytes },
    signal: AbortSignal,
  ): Promise<Outcome>;
  /**
   * The texts of narinfos, unchecked; undefined for each that it has not. Never rejects.
   *
   * @param hashes at most MAX_NARINFOS_PER_MESSAGE
   */
  narInfos(hashes: readonly StoreHash[], signal: AbortSignal): Promise<(string | undefined)[]>;
  /** Ends the connection. */
  drop(): void;
}
