/**
 * Finds out who lied where several peers have sent blocks of one bad piece: it is fetched again from one peer alone,
 * and what the others had sent is compared with the good bytes.
 */
import type Wire from 'bittorrent-protocol';
import Piece from 'torrent-piece';
import type Torrent from 'webtorrent/lib/torrent.js';
import { BLOCK_BYTES } from './block-length.ts';

/** The bytes of a bad piece, and who sent each block. */
interface BadPiece {
  readonly bytes: Uint8Array;
  readonly senders: readonly (Wire | undefined)[];
}

const senders = new WeakMap<Piece, (Wire | undefined)[]>();
/** Pieces that one peer alone may serve: the try before, and that peer. */
const exclusive = new WeakMap<Piece, { readonly before: BadPiece; owner: Wire | undefined }>();

/** Notes who sent these blocks of a piece. */
export function noteSender(piece: Piece, run: { readonly first: number; readonly count: number }, wire: Wire): void {
  let known = senders.get(piece);
  if (known === undefined) senders.set(piece, (known = []));
  for (let block = run.first; block < run.first + run.count; block++) known[block] ??= wire;
}

/** How many bytes of a piece each peer has sent. */
export function sendersOf(piece: Piece): Map<Wire, number> {
  const bytes = new Map<Wire, number>();
  for (const [block, wire] of (senders.get(piece) ?? []).entries()) {
    const length = Math.min(BLOCK_BYTES, piece.length - block * BLOCK_BYTES);
    if (wire !== undefined) bytes.set(wire, (bytes.get(wire) ?? 0) + length);
  }
  return bytes;
}

/** The piece to fetch in place of a bad one, exclusively where several peers have sent parts of it. */
export function replaceBadPiece(bad: Piece, bytes: Uint8Array): Piece {
  const next = new Piece(bad.length);
  const before = { bytes, senders: senders.get(bad) ?? [] };
  if (new Set(before.senders).size > 1) exclusive.set(next, { before, owner: undefined });
  return next;
}

/** The piece to ask `wire` for at `index`: undefined where it is there, or where another peer alone may serve it. */
export function pieceFor(torrent: Torrent, wire: Wire, index: number): Piece | undefined {
  const piece = torrent.pieces[index] ?? undefined;
  const state = piece && exclusive.get(piece);
  if (piece === undefined || state === undefined || state.owner === wire) return piece;
  if (state.owner === undefined) {
    state.owner = wire;
    return piece;
  }
  if (!state.owner.destroyed && !state.owner.peerChoking) return undefined;
  // What the owner sent before it left must not be mixed with what comes now.
  const anew = new Piece(piece.length);
  exclusive.set(anew, { before: state.before, owner: wire });
  torrent.pieces[index] = anew;
  return anew;
}

/** Who sent a block of an earlier try that differs from the good bytes. */
export function liarsOf(piece: Piece, good: Uint8Array): Set<Wire> {
  const before = exclusive.get(piece)?.before;
  const liars = new Set<Wire>();
  for (const [block, wire] of before?.senders.entries() ?? []) {
    const [from, to] = [block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES];
    const isGood = Buffer.compare(before!.bytes.subarray(from, to), good.subarray(from, to)) === 0;
    if (wire !== undefined && !isGood) liars.add(wire);
  }
  return liars;
}
