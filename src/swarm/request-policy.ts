/** How much is asked of a peer, and who takes over what it does not send: decided from rates alone. */
import { BLOCK_BYTES, MAX_IN_FLIGHT_BYTES } from './block-length.ts';

/** Bytes in flight to a peer that nobody has measured: enough for 2 ms of loopback and for 40 ms of a 100 MB/s line. */
const UNKNOWN_WINDOW_BYTES = 256 * 1024;
/** A peer that is known gets what it sends in a second, but so much at least, so that a round trip costs it nothing. */
const MIN_WINDOW_BYTES = 2 * BLOCK_BYTES;
/** All connections to one peer together have at most this many seconds of its rate in flight. */
const PEER_SECONDS = 2;
/** A peer that was asked and has sent nothing for so long is silent: the others take over what it was asked for. */
export const SILENT_MS = 1_000;
/** Blocks are taken over from a peer that sends so many times less. */
const SLOWER = 2;

/** Pace of a connection to a peer. */
export interface PeerPace {
  /** Bytes a second over all connections to the peer; undefined if that is not known yet. */
  readonly rate: number | undefined;
  /** Milliseconds that it could have sent something and did not; 0 where nothing was asked of it. */
  readonly silentMs: number;
}

/**
 * Bytes that may be in flight on one connection.
 *
 * @param elsewhereBytes in flight to the same peer on other connections
 */
export function windowOf({ rate, silentMs }: PeerPace, elsewhereBytes: number): number {
  if (silentMs > SILENT_MS) return BLOCK_BYTES;
  if (rate === undefined) return UNKNOWN_WINDOW_BYTES;
  const own = Math.max(MIN_WINDOW_BYTES, Math.min(MAX_IN_FLIGHT_BYTES, rate));
  return Math.min(own, Math.max(0, Math.max(own, rate * PEER_SECONDS) - elsewhereBytes));
}

/** True if what was asked of `theirs` should be asked of `mine`, which has nothing else to do. */
export function takesOver(mine: PeerPace, theirs: PeerPace): boolean {
  if (mine.silentMs > SILENT_MS) return false;
  if (theirs.silentMs > SILENT_MS) return true;
  return mine.rate !== undefined && theirs.rate !== undefined && mine.rate > theirs.rate * SLOWER;
}
