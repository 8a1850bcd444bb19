import Piece from 'torrent-piece';
import { MAX_BLOCK_BYTES } from '../wire/bounds.ts';

/** Length of a block that every BitTorrent client serves (BEP 3). */
export const BLOCK_BYTES = Piece.BLOCK_LENGTH;

/** Longest request that WebTorrent answers; asked only of peers that announce it (see wire-tuning.ts). */
export const LONG_REQUEST_BYTES = MAX_BLOCK_BYTES;

/** Most that is asked of one peer at a time, and so the most that comes from it unread. */
export const MAX_IN_FLIGHT_BYTES = 1024 * 1024;
