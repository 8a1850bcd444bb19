/**
 * Checks what a peer sends before bittorrent-protocol (5.0.9) and ut_metadata (5.0.1) see it. They trust it: two
 * bytes (an empty message of ut_metadata) throw inside a socket's handler, which ends the process, and six bytes of
 * bad bencoding hang it. Whoever breaks the protocol is disconnected.
 */
import { hash } from 'node:crypto';
import bencode from 'bencode';
import type Wire from 'bittorrent-protocol';
import type { UtMetadata } from 'bittorrent-protocol';
import { endOfValue, isDictionary } from './bencoding.ts';
import { LONG_REQUEST_BYTES, MAX_IN_FLIGHT_BYTES } from './block-length.ts';
import { stateOf } from './wire-state.ts';

/** The longest message that we ask for is a long block; a bitfield of so many bytes is one of a million pieces. */
export const MAX_MESSAGE_BYTES = LONG_REQUEST_BYTES + 64;
/** Handshakes of extensions (BEP 10) and pieces of metadata (BEP 9: 16 KiB and a head) are shorter. */
const MAX_EXTENDED_BYTES = 32 * 1024;
/** A client may send its handshake again when something has changed (BEP 10). */
const MAX_EXTENDED_HANDSHAKES = 8;
/** Requests that a peer turns down in a row before it counts as one that has nothing to give. */
const MAX_REFUSALS = 16;
/** The longest piece of a torrent that is opened by its infohash alone: hash maps have 16 KiB. */
const MAX_PIECE_BYTES = 1024 * 1024;
const NEVER = Number.MAX_SAFE_INTEGER;

/** Ends a connection and reads nothing more of what came over it; `wire.destroy()` alone goes on with the rest. */
export function refuse(wire: Wire): void {
  wire._buffer = [];
  wire._bufferSize = 0;
  wire._parse(NEVER, ignore);
  wire.destroy();
}

/** Wraps the parser of a message's length: WebTorrent buffers as many bytes as the peer says, up to 4 GiB. */
export function refuseHugeMessages(parse: (buffer: Uint8Array) => void): (buffer: Uint8Array) => void {
  return function refuseHugeMessage(this: Wire, buffer): void {
    const lengthBytes = new DataView(buffer.buffer, buffer.byteOffset, 4).getUint32(0);
    if (lengthBytes > MAX_MESSAGE_BYTES) refuse(this);
    else parse.call(this, buffer);
  };
}

/** Wraps the handler of extension messages (BEP 10). */
export function refuseUnsoundExtended(
  handle: (id: number, payload: Uint8Array) => void,
): (id: number, payload: Uint8Array) => void {
  return function refuseUnsound(this: Wire, id, payload): void {
    try {
      if (!isSoundExtended(this, id, payload)) return refuse(this);
      handle.call(this, id, payload);
    } catch {
      // A field of the wrong type, or a piece of metadata from beyond its end: it may cost a stranger's connection.
      refuse(this);
    }
  };
}

function isSoundExtended(wire: Wire, id: number, payload: Uint8Array): boolean {
  const isBencoded = id === 0 || wire.extendedMapping[id] === 'ut_metadata';
  if (!isBencoded) return true; // ours, which checks itself, or not parsed at all
  if (payload.length > MAX_EXTENDED_BYTES) return false;
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const end = endOfValue(bytes, 0);
  const value = bencode.decode(bytes.subarray(0, end)); // trailing bytes are a piece of metadata
  if (!isDictionary(value)) return false;
  if (id !== 0) return true;
  // Each announcement of a metadata_size makes ut_metadata allocate it, up to 10 MB, and ask for all of it again.
  if (++stateOf(wire).extendedHandshakes > MAX_EXTENDED_HANDSHAKES) return false;
  const { m } = value;
  return m === undefined || (isDictionary(m) && Object.values(m).every(Number.isInteger));
}

/**
 * Has metadata of the right SHA-1 alone decoded: ut_metadata decodes up to 10 MB of a stranger's bencoding before it
 * hashes them.
 */
export function guardMetadata(wire: Wire, infoHash: string): void {
  const extension = wire.ut_metadata;
  const set = extension.setMetadata.bind(extension);
  extension.setMetadata = async (metadata) => {
    // Our own metadata is set from outside, and is a whole .torrent.
    const isFromPeer = metadata === extension.metadata;
    if (!isFromPeer || isSoundMetadata(metadata, infoHash)) return set(metadata);
    refuse(wire);
    return false;
  };
}

function isSoundMetadata(metadata: NonNullable<UtMetadata['metadata']>, infoHash: string): boolean {
  if (hash('sha1', metadata, 'hex') !== infoHash) return false;
  try {
    if (endOfValue(Buffer.from(metadata), 0) !== metadata.length) return false;
    const info: unknown = bencode.decode(metadata);
    // WebTorrent allocates a piece as long as whoever made the torrent says.
    const pieceBytes = isDictionary(info) ? info['piece length'] : undefined;
    return Number.isInteger(pieceBytes) && Number(pieceBytes) > 0 && Number(pieceBytes) <= MAX_PIECE_BYTES;
  } catch {
    return false;
  }
}

/** Wraps the handler of PIECE: what nobody asked for is no merit of the peer, and much of it is an attack. */
export function ignoreUnaskedBlocks(
  handle: (index: number, offset: number, block: Uint8Array) => void,
): (index: number, offset: number, block: Uint8Array) => void {
  return function ignoreUnaskedBlock(this: Wire, index, offset, block): void {
    const isAsked = this.requests.some(
      (request) => request.piece === index && request.offset === offset && request.length === block.length,
    );
    if (isAsked) return handle.call(this, index, offset, block);
    const state = stateOf(this);
    state.unaskedBytes += block.length;
    if (state.unaskedBytes > MAX_IN_FLIGHT_BYTES) refuse(this); // blocks on their way when it choked us are fine
  };
}

/** Counts a request that failed. A peer that says it has a piece and turns down every request for it is left alone. */
export function countRefusal(wire: Wire): void {
  const state = stateOf(wire);
  if (wire.destroyed || wire.peerChoking) return; // a choke turns down all that is open (BEP 6)
  if (++state.refusals >= MAX_REFUSALS) wire.destroy();
}

/**
 * Wraps the handler of a peer's handshake: what an eager peer sends right behind it waits until ours is sent, since
 * WebTorrent listens to it only then, and a HAVE ALL would count as a breach of protocol.
 */
export function holdUntilAnswered(handle: (handshake: Uint8Array) => void): (handshake: Uint8Array) => void {
  return function hold(this: Wire, handshake): void {
    handle.call(this, handshake);
    if (this._handshakeSent || this._finished) return;
    stateOf(this).isHeld = true;
    this._parse(NEVER, ignore);
  };
}

/** Wraps the sending of our handshake: from here on what was held back is read. */
export function releaseHeld(
  send: (infoHash: string, peerId: string, options: object) => void,
): (infoHash: string, peerId: string, options: object) => void {
  return function release(this: Wire, infoHash, peerId, options): void {
    send.call(this, infoHash, peerId, options);
    const state = stateOf(this);
    if (!state.isHeld) return;
    // WebTorrent begins to listen in the microtask before this one.
    queueMicrotask(() => {
      state.isHeld = false;
      if (this.destroyed) return;
      // oxlint-disable-next-line typescript/unbound-method -- called with the wire as `this`
      this._parse(4, this._onMessageLength);
      this._write(new Uint8Array(), ignore);
    });
  };
}

function ignore(): void {
  // nothing to do
}
