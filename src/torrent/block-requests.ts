/** Which blocks are asked of which peer, and what becomes of a piece that is complete. */
/* oxlint-disable oxc/no-this-in-exported-function -- requestBlocks stands in for a method of Torrent */
import type Wire from 'bittorrent-protocol';
import type Piece from 'torrent-piece';
import type Torrent from 'webtorrent/lib/torrent.js';
import { BLOCK_BYTES, LONG_REQUEST_BYTES, MAX_IN_FLIGHT_BYTES } from './block-length.ts';
import { targetKey } from './direct-payload.ts';
import { sha1 } from './hash-thread.ts';
import { giveBack, takeBuffer } from './lent-buffers.ts';
import { countRefusal } from './wire-guard.ts';
import { liarsOf, noteSender, pieceFor, replaceBadPiece } from './suspects.ts';
import { stateOf, type WireState } from './wire-state.ts';

/** Key in the extended handshake (BEP 10) by which we tell that we answer long requests. */
const BLOCK_KEY = 'nar_block';
/** From this rate on a long request cannot be mistaken for a stall. */
const LONG_REQUEST_RATE = 512 * 1024;
/** Bytes in flight to one peer: enough for 2 ms of loopback and for 40 ms of a 100 MB/s line. */
const MIN_IN_FLIGHT_BYTES = 256 * 1024;

/** Pieces that wait to be hashed and written; beyond this nothing more is asked for. */
const MAX_UNWRITTEN_BYTES = 32 * 1024 * 1024;

/** A torrent of ours tells here who sent a piece that failed its SHA-1: one alone, or several of whom some lied. */
export const BAD_PIECE = Symbol('bad piece');

/** Announces to the peer at the other end that we answer long requests. Call before the handshake is sent. */
export function announceLongRequests(wire: Wire): void {
  wire.extendedHandshake[BLOCK_KEY] = LONG_REQUEST_BYTES;
}

/**
 * Replaces the request scheduler: runs of blocks where the peer takes them, a window in bytes that starts wide enough
 * for a small NAR to need one exchange.
 */
export function requestBlocks(this: Torrent, wire: Wire): void {
  if (wire.destroyed || this.destroyed || wire.peerChoking) return;
  if (unwrittenBytes > MAX_UNWRITTEN_BYTES) {
    waitingForDisk.add(this);
    return;
  }
  const state = stateOf(wire);
  const rate = Math.max(wire.downloadSpeed(), state.knownRate);
  const window = Math.min(MAX_IN_FLIGHT_BYTES, Math.max(MIN_IN_FLIGHT_BYTES, rate));
  if (state.inFlightBytes > window / 2) return;
  const blocks =
    rate >= LONG_REQUEST_RATE && wire.peerExtendedHandshake[BLOCK_KEY] === LONG_REQUEST_BYTES
      ? LONG_REQUEST_BYTES / BLOCK_BYTES
      : 1;
  for (const selection of this._selections) {
    for (let index = selection.from + selection.offset; index <= selection.to; index++) {
      if (!wire.peerPieces.get(index)) continue;
      const piece = pieceFor(this, wire, index);
      if (piece === undefined) continue;
      while (state.inFlightBytes < window) {
        const run = reserveRun(piece, blocks);
        if (run === undefined) break;
        requestRun(this, wire, state, index, piece, run);
      }
      if (state.inFlightBytes >= window) return;
    }
  }
}

interface Run {
  readonly first: number;
  readonly count: number;
}

/** Reserves up to `limit` blocks that follow each other, or nothing where all are taken. */
function reserveRun(piece: Piece, limit: number): Run | undefined {
  const first = piece.reserve();
  if (first === -1) return undefined;
  let count = 1;
  while (count < limit) {
    const next = piece.reserve();
    if (next === first + count) {
      count++;
      continue;
    }
    if (next !== -1) piece.cancel(next);
    break;
  }
  return { first, count };
}

function requestRun(torrent: Torrent, wire: Wire, state: WireState, index: number, piece: Piece, run: Run): void {
  const offset = run.first * BLOCK_BYTES;
  const length = Math.min(run.count * BLOCK_BYTES, piece.length - offset);
  const whole = bufferOf(piece);
  const target = whole.subarray(offset, offset + length);
  const key = targetKey(index, offset);
  state.inFlightBytes += length;
  state.targets.set(key, target);
  wire.request(index, offset, length, (error, bytes) => {
    state.inFlightBytes -= length;
    state.targets.delete(key);
    if (torrent.destroyed) return;
    if (error !== null) {
      countRefusal(wire);
      for (let block = run.first; block < run.first + run.count; block++) piece.cancel(block);
      queueMicrotask(() => torrent._update());
      return;
    }
    state.refusals = 0;
    state.activeAtMs = performance.now();
    state.onPieceBytes?.(length);
    if (piece !== torrent.pieces[index]) return;
    if (!buffers.has(piece)) return; // it is complete already
    noteSender(piece, run, wire);
    if (bytes !== target) target.set(bytes); // it came through the wire
    if (piece.set(run.first, target, wire)) void finishPiece(torrent, wire, index, piece, whole);
    else torrent._updateWire(wire);
  });
}

let unwrittenBytes = 0;
/** Torrents that ask for nothing until the disk has caught up. */
const waitingForDisk = new Set<Torrent>();

/** True while a torrent asks for nothing since the disk is behind: then its peers are not to blame that nothing comes. */
export function waitsForDisk(torrent: Torrent): boolean {
  return waitingForDisk.has(torrent);
}

function onWritten(bytes: number): void {
  unwrittenBytes -= bytes;
  if (unwrittenBytes > MAX_UNWRITTEN_BYTES / 2 || waitingForDisk.size === 0) return;
  const torrents = [...waitingForDisk];
  waitingForDisk.clear();
  for (const torrent of torrents) if (!torrent.destroyed) torrent._update();
}

/** The bytes of pieces that are on their way. */
const buffers = new WeakMap<Piece, Buffer>();

function bufferOf(piece: Piece): Buffer {
  let buffer = buffers.get(piece);
  if (buffer === undefined) {
    buffer = takeBuffer(piece.length).subarray(0, piece.length);
    buffers.set(piece, buffer);
  }
  return buffer;
}

async function finishPiece(torrent: Torrent, wire: Wire, index: number, piece: Piece, bytes: Buffer): Promise<void> {
  const sources = (piece.sources ?? []) as Wire[];
  buffers.delete(piece);
  unwrittenBytes += bytes.length;
  let digest = sha1(bytes);
  if (typeof digest !== 'string') {
    try {
      digest = await digest;
    } catch (error) {
      torrent._destroy(error as Error); // the thread ended: a defect, and nothing can be checked any more
    }
    if (torrent.destroyed) {
      onWritten(bytes.length);
      return;
    }
  }
  if (digest !== torrent._hashes[index]) {
    onWritten(bytes.length);
    torrent.pieces[index] = replaceBadPiece(piece, bytes);
    torrent.emit(BAD_PIECE, index, sources);
    queueMicrotask(() => torrent._update());
    return;
  }
  for (const liar of liarsOf(piece, bytes)) torrent.emit(BAD_PIECE, index, [liar]);
  torrent.store.put(index, bytes, (error) => {
    onWritten(bytes.length);
    if (!error && torrent.pieces.length > 1) giveBack(bytes); // of a single piece the storage is the owner now
    if (torrent.destroyed) return;
    if (error) {
      torrent._destroy(error);
      return;
    }
    torrent._markVerified(index);
    for (const other of torrent.wires) other.have(index);
    torrent._checkDone();
    if (!torrent.destroyed) torrent._updateWire(wire);
  });
}
