import type { PeerRecord } from '../discovery/peer-table.ts';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import type { FileRange, Refusal } from './messages/messages.ts';
import type { Claim } from './link/their-fetches.ts';
import type { PieceSet } from './messages/piece-set.ts';

/**
 * The outcome of a request. `complete`: all bytes arrived. `closed`: the connection ended first. `cancelled`: the
 * signal ended it. Otherwise the member refused it, or the rest of it.
 */
export type Outcome = 'complete' | 'closed' | Refusal;

/** Takes the next bytes of an answer, in order. They are lent: the buffer is overwritten after this returns. */
export type OnBytes = (bytes: Uint8Array) => void;

export interface GetOptions {
  /** True if our limit on the rate must not delay the answer. Then it does not delay earlier answers, either. */
  readonly isUrgent?: boolean | undefined;
}

export interface WantedFile {
  readonly file: FileHash;
  /** Its FileSize. Without it, members are not asked for single pieces. */
  readonly sizeBytes?: number | undefined;
  /**
   * True if only members that the scope admits may hear of it, since no hash map lists it or this process holds it.
   * Default: all may.
   */
  readonly isScoped?: boolean | undefined;
}

/** A connected member: its parts of the wanted files, and the requests to it. */
export interface Member {
  /** The record of the peer over all connections: its merit, its rate, its silences. */
  readonly peer: PeerRecord;
  /** Identifies it among all members, in hex. */
  readonly peerId: string;
  /** Address of its host, as node:net gives it. */
  readonly host: string;
  /** True if it is on a network of this machine. */
  readonly isNeighbour: boolean;
  readonly isOpen: boolean;
  /** Number of our open requests. */
  readonly openRequests: number;
  /** Requested bytes that have not arrived. Includes those of cancelled requests, until the member confirms. */
  readonly inFlightBytes: number;
  /** Payload bytes that we have sent it over this connection. */
  readonly sentBytes: number;
  /** True if it was asked and has sent no payload for so long that others should take over the requests. */
  readonly isLate: boolean;
  /** Milliseconds for which our own limit will read nothing from it, because of the bytes that were read so far. */
  readonly debtMs: number;
  /**
   * True if it has answered all questions about its files. Only then does a file that was not named count as absent.
   */
  readonly isKnown: boolean;
  /** Returns its parts of a wanted file. */
  has(file: FileHash): 'whole' | PieceSet | undefined;
  /** Returns true if it wants a file that we did not have when it said so. */
  wants(file: FileHash): boolean;
  /**
   * Returns its claim to fetch a wanted file from an upstream. Undefined if there is none, or if it is not believed.
   */
  fetching(file: FileHash): Claim | undefined;
  /**
   * Requests a range. Ranges that the member has at hand come first, otherwise answers come in the order of the
   * requests. Never rejects.
   *
   * @param onBytes called with all bytes of the range, in order. Not called once `signal` is aborted
   */
  get(range: FileRange, onBytes: OnBytes, signal: AbortSignal, options?: GetOptions): Promise<Outcome>;
  /**
   * Requests one of these ranges: the one that the member has sent least. It leaves out those that it is already
   * sending us. Never rejects.
   *
   * @param candidates ranges of wanted files, the best first, at most MAX_ANY_CANDIDATES
   * @param on.picked called with the index of the chosen range, before its bytes
   */
  any(
    candidates: readonly FileRange[],
    on: { readonly picked: (index: number) => void; readonly bytes: OnBytes },
    signal: AbortSignal,
  ): Promise<Outcome>;
  /**
   * Returns the texts of narinfos, unchecked. Our limit on the rate does not delay them. Undefined for each that the member does not have. Never rejects.
   *
   * @param hashes at most MAX_NARINFOS_PER_MESSAGE
   */
  narInfos(hashes: readonly StoreHash[], signal: AbortSignal): Promise<(string | undefined)[]>;
  /** Ends the connection. */
  drop(): void;
}
