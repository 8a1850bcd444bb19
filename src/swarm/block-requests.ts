/** Which blocks are asked of which peer, and what becomes of a piece that is complete. */
/* oxlint-disable oxc/no-this-in-exported-function -- requestBlocks stands in for a method of Torrent */
import type Wire from 'bittorrent-protocol';
import type Piece from 'torrent-piece';
import type Torrent from 'webtorrent/lib/torrent.js';
import { BLOCK_BYTES, LONG_REQUEST_BYTES } from './block-length.ts';
import { divert, targetKey } from './direct-payload.ts';
import { sha1 } from '../bytes/hash-thread.ts';
import { giveBack, takeBuffer } from '../bytes/lent-buffers.ts';
import { countRefusal } from './wire-guard.ts';
import { isSilent } from '../discovery/peer-table.ts';
import { SILENT_MS, takesOver, windowOf, type PeerPace } from './request-policy.ts';
import { liarsOf, noteSender, pieceFor, replaceBadPiece, sendersOf } from './suspects.ts';
import { silentSince, stateOf, type AskedRun, type WireState } from './wire-state.ts';

/** Key in the extended handshake (BEP 10) by which we tell that we answer long requests. */
const BLOCK_KEY = 'nar_block';
/** From this rate on a long request cannot be mistaken for a stall. */
const LONG_REQUEST_RATE = 512 * 1024;
/** Pieces that wait to be hashed and written; beyond this nothing more is asked for. */
const MAX_UNWRITTEN_BYTES = 32 * 1024 * 1024;

/** A torrent of ours tells here of a piece that fits its SHA-1: its bytes by who sent them. */
export const GOOD_PIECE = Symbol('good piece');

/** A torrent of ours tells here who sent a piece that failed its SHA-1: one alone, or several of whom some lied. */
export const BAD_PIECE = Symbol('bad piece');

/** Announces to the peer at the other end that we answer long requests. Call before the handshake is sent. */
export function announceLongRequests(wire: Wire): void {
  wire.extendedHandshake[BLOCK_KEY] = LONG_REQUEST_BYTES;
}

/**
 * Replaces the request scheduler: runs of blocks where the peer takes them, a window in bytes that starts wide enough
 * for a small NAR to need one exchange and then follows the peer's rate. A peer that has nothing else to do takes over
 * what slower ones were asked for.
 */
export function requestBlocks(this: Torrent, wire: Wire): void {
  if (wire.destroyed || this.destroyed || wire.peerChoking) return;
  if (unwrittenBytes > MAX_UNWRITTEN_BYTES) {
    waitingForDisk.add(this);
    return;
  }
  const state = stateOf(wire);
  const pace = paceOf(state);
  if (pace.silentMs > SILENT_MS && this.wires.some((other) => other !== wire && isReliable(other))) return;
  const window = windowOf(pace, (state.peer?.inFlightBytes ?? 0) - state.inFlightBytes);
  if (state.inFlightBytes > window / 2) return;
  const rate = Math.max(wire.downloadSpeed(), pace.rate ?? 0);
  const blocks =
    rate >= LONG_REQUEST_RATE && wire.peerExtendedHandshake[BLOCK_KEY] === LONG_REQUEST_BYTES
      ? LONG_REQUEST_BYTES / BLOCK_BYTES
      : 1;
  requestFree(this, wire, state, { window, blocks });
  if (state.inFlightBytes < window && takeOver(this, wire, pace, window - state.inFlightBytes))
    requestFree(this, wire, state, { window, blocks });
}

function isReliable(wire: Wire): boolean {
  return !wire.peerChoking && paceOf(stateOf(wire)).silentMs <= SILENT_MS;
}

/** Asks for blocks that nobody was asked for, as far as the window goes. */
function requestFree(
  torrent: Torrent,
  wire: Wire,
  state: WireState,
  { window, blocks }: { readonly window: number; readonly blocks: number },
): void {
  for (const selection of torrent._selections) {
    for (let index = selection.from + selection.offset; index <= selection.to; index++) {
      if (!wire.peerPieces.get(index)) continue;
      const piece = pieceFor(torrent, wire, index);
      if (piece === undefined) continue;
      while (state.inFlightBytes < window) {
        const run = reserveRun(piece, blocks);
        if (run === undefined) break;
        requestRun(torrent, wire, state, index, piece, run);
      }
      if (state.inFlightBytes >= window) return;
    }
  }
}

/** Frees blocks that slower peers were asked for and this one has, the last ones first. @returns whether there are any */
function takeOver(torrent: Torrent, wire: Wire, mine: PeerPace, maxBytes: number): boolean {
  let freed = 0;
  for (const other of torrent.wires) {
    const theirs = stateOf(other);
    if (other === wire || theirs.asked.size === 0 || !takesOver(mine, paceOf(theirs))) continue;
    for (const run of [...theirs.asked.values()].toReversed()) {
      if (freed >= maxBytes) return true;
      if (!wire.peerPieces.get(run.index)) continue;
      withdraw(other, theirs, run);
      freed += run.target.length;
    }
  }
  return freed > 0;
}

/** Takes a request back. What is on its way all the same is no offence of the peer. */
function withdraw(wire: Wire, state: WireState, { index, first, target }: AskedRun): void {
  state.unaskedBytes -= target.length;
  state.withdrawn = true;
  wire.cancel(index, first * BLOCK_BYTES, target.length);
  state.withdrawn = false;
}

/** How a peer does, and for how long it has sent nothing of what it was asked for, here or not long ago elsewhere. */
export function paceOf(state: WireState, nowMs = performance.now()): PeerPace {
  const { peer, asked } = state;
  const since = Math.max(silentSince(state), diskFreeAtMs);
  const silentMs = asked.size === 0 ? 0 : Math.max(0, nowMs - since);
  return {
    rate: peer?.rate.isSettled(nowMs) === true ? peer.rate.rate(nowMs) : undefined,
    silentMs: peer !== undefined && isSilent(peer, nowMs) ? Math.max(silentMs, SILENT_MS + 1) : silentMs,
  };
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
  const { peer } = state;
  if (state.asked.size === 0) state.silentSinceMs = performance.now();
  countInFlight(state, length);
  peer?.rate.begin(performance.now());
  state.asked.set(key, { index, ...run, target });
  wire.request(index, offset, length, (error, bytes) => {
    const nowMs = performance.now();
    countInFlight(state, -length);
    state.asked.delete(key);
    if (error === null) peer?.rate.add(length, nowMs);
    peer?.rate.end(nowMs);
    if (torrent.destroyed) return;
    if (error !== null) {
      divert(state, target); // somebody else is asked to fill it
      for (let block = run.first + run.count - 1; block >= run.first; block--) piece.cancel(block);
      if (state.withdrawn) return;
      countRefusal(wire);
      queueMicrotask(() => torrent._update());
      return;
    }
    state.refusals = 0;
    state.activeAtMs = state.silentSinceMs = nowMs;
    state.onPieceBytes?.(length);
    if (piece !== torrent.pieces[index]) return;
    if (!buffers.has(piece)) return; // it is complete already
    noteSender(piece, run, wire);
    if (bytes !== target) target.set(bytes); // it came through the wire
    if (piece.set(run.first, target, wire)) void finishPiece(torrent, wire, index, piece, whole);
    else torrent._updateWire(wire);
  });
}

function countInFlight(state: WireState, bytes: number): void {
  state.inFlightBytes += bytes;
  if (state.peer !== undefined) state.peer.inFlightBytes += bytes;
}

/** A piece of which some blocks are there, from the front on. */
export interface PieceStart {
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** Beginnings of incomplete pieces; to be called before the torrent is closed, and used after. */
export function beginnings(torrent: Torrent): PieceStart[] {
  const starts: PieceStart[] = [];
  for (const [index, piece] of torrent.pieces.entries()) {
    const buffer = piece === null ? undefined : buffers.get(piece);
    if (piece === null || buffer === undefined) continue;
    let blocks = 0;
    while (blocks * BLOCK_BYTES < piece.length && piece.get(blocks)) blocks++;
    if (blocks > 0) starts.push({ index, bytes: buffer.subarray(0, Math.min(blocks * BLOCK_BYTES, piece.length)) });
  }
  return starts;
}

/** Puts back what an earlier download has left of a piece; of the last block only if it is there in full. */
export function putBeginning(torrent: Torrent, { index, bytes }: PieceStart): void {
  const piece = torrent.pieces[index];
  if (piece === null || piece === undefined || buffers.has(piece)) return;
  const buffer = bufferOf(piece);
  for (let block = 0; (block + 1) * BLOCK_BYTES <= bytes.length && block !== lastBlockOf(piece); block++) {
    piece.reserve();
    const [from, to] = [block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES];
    buffer.set(bytes.subarray(from, to), from);
    piece.set(block, buffer.subarray(from, to), undefined);
  }
}

/** The last block is fetched in any case: a piece is finished by a peer. */
function lastBlockOf(piece: Piece): number {
  return Math.ceil(piece.length / BLOCK_BYTES) - 1;
}

let unwrittenBytes = 0;
/** When the disk last caught up: before that nobody could send anything. */
let diskFreeAtMs = 0;
/** Torrents that ask for nothing until the disk has caught up. */
const waitingForDisk = new Set<Torrent>();

/** True while a torrent asks for nothing since the disk is behind: then its peers are not to blame that nothing comes. */
export function waitsForDisk(torrent: Torrent): boolean {
  return waitingForDisk.has(torrent);
}

function onWritten(bytes: number): void {
  unwrittenBytes -= bytes;
  if (unwrittenBytes > MAX_UNWRITTEN_BYTES / 2 || waitingForDisk.size === 0) return;
  diskFreeAtMs = performance.now();
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
  const sources = ((piece.sources ?? []) as (Wire | undefined)[]).filter((source) => source !== undefined);
  const isFromOneOnly = sources.length === piece.sources?.length; // not from an earlier download in part
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
    torrent.emit(BAD_PIECE, index, isFromOneOnly ? sources : []);
    queueMicrotask(() => torrent._update());
    return;
  }
  for (const liar of liarsOf(piece, bytes)) torrent.emit(BAD_PIECE, index, [liar]);
  torrent.emit(GOOD_PIECE, bytes.length, sendersOf(piece));
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
