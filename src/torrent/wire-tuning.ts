/**
 * WebTorrent's hot path, replaced in one place. Stock WebTorrent 3.0.21 moved a closure of 813 NARs (758 MB) over
 * loopback in 6.3 s; with what is here the same transfer takes 3.7 s and half the processor time on the seeder's
 * side. Each function says what it replaces and why. The version is pinned and test/torrent/wire-tuning.test.ts fails where
 * a member that is replaced here has gone.
 */
import { hash } from 'node:crypto';
import Wire from 'bittorrent-protocol';
import Piece from 'torrent-piece';
import type WebTorrent from 'webtorrent';
import Peer from 'webtorrent/lib/peer.js';
import Torrent from 'webtorrent/lib/torrent.js';
import type { RateLimit } from './rate-limit.ts';

/** Length of a block that every BitTorrent client serves (BEP 3). */
const BLOCK_BYTES = Piece.BLOCK_LENGTH;
/** Longest request that WebTorrent answers; asked only of peers that announce {@link BLOCK_KEY}. */
const LONG_REQUEST_BYTES = 128 * 1024;
/** Key in the extended handshake (BEP 10) by which we tell that we answer long requests. */
const BLOCK_KEY = 'nar_block';
/** From this rate on a long request cannot be mistaken for a stall. */
const LONG_REQUEST_RATE = 512 * 1024;
/** Bytes in flight to one peer: enough for 2 ms of loopback and for 40 ms of a 100 MB/s line. */
const MIN_IN_FLIGHT_BYTES = 256 * 1024;
const MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024;
/** A message longer than a block we asked for, or a bitfield of 400,000 pieces, is an attack on our memory. */
const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;

/** What the swarm hangs on each wire and reads back. */
interface WireState {
  inFlightBytes: number;
  /** `host:port`, as the peer table has it. */
  address: string;
  /** Rate of this peer in earlier connections, bytes a second. */
  knownRate: number;
  onPieceBytes: ((bytes: number) => void) | undefined;
}

const states = new WeakMap<Wire, WireState>();

/** State that the tuning keeps for a wire. */
export function stateOf(wire: Wire): WireState {
  let state = states.get(wire);
  if (state === undefined)
    states.set(wire, (state = { inFlightBytes: 0, address: '', knownRate: 0, onPieceBytes: undefined }));
  return state;
}

/** Announces to the peer at the other end that we answer long requests. Call before the handshake is sent. */
export function announceLongRequests(wire: Wire): void {
  wire.extendedHandshake[BLOCK_KEY] = LONG_REQUEST_BYTES;
}

/** A torrent of ours tells here who sent a piece that failed its SHA-1. */
export const BAD_PIECE = Symbol('bad piece');

/** Limits what comes in from all peers of a client. WebTorrent hands its throttle groups to each peer, and so this. */
export function limitDownloads(client: WebTorrent, limit: RateLimit | undefined): void {
  client.throttleGroups.limit = limit;
}

let installed = false;

/** Installs the tuning; done once a process, before the first client is made. */
export function tuneWebTorrent(): void {
  if (installed) return;
  installed = true;
  Peer.prototype.setThrottlePipes = joinSocketAndWire;
  Wire.prototype._write = bufferUntilParsable;
  // oxlint-disable-next-line typescript/unbound-method -- called with the wire as `this`
  Wire.prototype._onMessageLength = refuseHugeMessages(Wire.prototype._onMessageLength);
  Torrent.prototype._updateWire = requestBlocks;
  // Each call formats its arguments whether anybody reads them or not.
  Torrent.prototype._debug = ignore;
  Wire.prototype._debug = ignore;
}

/**
 * Replaces a pipeline of six streams with two listeners. Writes of one tick leave in one system call (a request is 17
 * bytes, a block's header 13), TCP_NODELAY keeps Nagle's algorithm from adding 44 ms to each exchange, and the
 * rate limit pauses the socket, so that the sender feels it.
 */
function joinSocketAndWire(this: Peer): void {
  const { conn, wire } = this;
  const { limit } = this.throttleGroups;
  if (conn === null || wire === null) return;
  conn.setNoDelay(true);
  conn.on('data', (bytes: Buffer) => {
    this.emit('download', bytes.length);
    if (this.destroyed) return;
    wire.write(bytes);
    const waitMs = limit?.take(bytes.length) ?? 0;
    if (waitMs > 0) {
      conn.pause();
      setTimeout(() => conn.resume(), waitMs);
    }
  });
  let corked = false;
  wire.on('data', (bytes: Uint8Array) => {
    this.emit('upload', bytes.length);
    if (this.destroyed) return;
    if (!corked) {
      corked = true;
      conn.cork();
      process.nextTick(() => {
        corked = false;
        conn.uncork();
      });
    }
    if (!conn.write(bytes)) {
      wire.pause();
      conn.once('drain', () => wire.resume());
    }
  });
}

/** Replaces a concatenation at every chunk that arrives with one a message. */
function bufferUntilParsable(this: Wire, bytes: Uint8Array, done: (error?: Error | null) => void): void {
  this._bufferSize += bytes.length;
  this._buffer.push(bytes);
  if (this._bufferSize >= this._parserSize) {
    if (this._buffer.length > 1) this._buffer = [Buffer.concat(this._buffer, this._bufferSize)];
    this._processBuffer();
  }
  done(null);
}

/** WebTorrent buffers as many bytes as a peer says that its message has, up to 4 GiB. */
function refuseHugeMessages(parse: (buffer: Uint8Array) => void): (buffer: Uint8Array) => void {
  return function refuseHugeMessage(this: Wire, buffer: Uint8Array): void {
    const lengthBytes =
      ((buffer[0] ?? 0) << 24) | ((buffer[1] ?? 0) << 16) | ((buffer[2] ?? 0) << 8) | (buffer[3] ?? 0);
    if (lengthBytes < 0 || lengthBytes > MAX_MESSAGE_BYTES) {
      this.destroy();
      return;
    }
    parse.call(this, buffer);
  };
}

/**
 * Replaces the request scheduler: runs of blocks where the peer takes them, a window in bytes that starts wide enough
 * for a small NAR to need one exchange, and SHA-1 without a detour over the thread pool.
 */
function requestBlocks(this: Torrent, wire: Wire): void {
  if (wire.destroyed || this.destroyed || wire.peerChoking) return;
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
      const piece = this.pieces[index];
      if (!piece || !wire.peerPieces.get(index) || !mayServe(piece, wire)) continue;
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
  state.inFlightBytes += length;
  wire.request(index, offset, length, (error, bytes) => {
    state.inFlightBytes -= length;
    if (torrent.destroyed) return;
    if (error !== null) {
      for (let block = run.first; block < run.first + run.count; block++) piece.cancel(block);
      queueMicrotask(() => torrent._update());
      return;
    }
    state.onPieceBytes?.(length);
    if (piece !== torrent.pieces[index]) return;
    if (piece.set(run.first, bytes, wire)) finishPiece(torrent, wire, index, piece);
    else torrent._updateWire(wire);
  });
}

function finishPiece(torrent: Torrent, wire: Wire, index: number, piece: Piece): void {
  const sources = (piece.sources ?? []) as Wire[];
  const bytes = piece.flush();
  if (hash('sha1', bytes, 'hex') !== torrent._hashes[index]) {
    const next = new Piece(piece.length);
    // Who of several lied is not known: the next try takes the whole piece from one peer.
    if (sources.length > 1) exclusive.add(next);
    torrent.pieces[index] = next;
    torrent.emit(BAD_PIECE, index, sources);
    queueMicrotask(() => torrent._update());
    return;
  }
  torrent.store.put(index, bytes, (error) => {
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

/** Pieces that one peer alone may serve, and that peer. */
const exclusive = new WeakSet<Piece>();
const owners = new WeakMap<Piece, Wire>();

function mayServe(piece: Piece, wire: Wire): boolean {
  if (!exclusive.has(piece)) return true;
  const owner = owners.get(piece);
  if (owner === undefined || owner.destroyed) owners.set(piece, wire);
  return owners.get(piece) === wire;
}

function ignore(): void {
  // nothing to say
}
