/**
 * Payload goes from the socket's chunk straight to its place: the buffer of its piece, or of a small NAR. The wire would
 * gather a message of 128 KiB from three chunks, and the piece eight of these: two copies and two allocations more.
 *
 * Only messages that were asked for and whose head lies in one chunk take this way; all else goes to the wire.
 */
import Wire from 'bittorrent-protocol';
import { stateOf, type WireState } from './wire-state.ts';

/** A message whose payload is on its way. */
export interface Incoming {
  /** Where the payload goes. */
  target: Uint8Array;
  /** Bytes of it that have come. */
  received: number;
  readonly lengthBytes: number;
  /** Told once all of it is there. */
  readonly onWhole: () => void;
}

/** One end of an extension whose messages carry payload. */
export interface PayloadExtension {
  /** Id that the peer has to use for it (BEP 10). */
  readonly id: number;
  /** Bytes of a message before its payload, counted from the kind of the extension's message. */
  readonly headBytes: number;
  /** Where the payload of the message with this head goes; undefined where it is not one that was asked for. */
  readonly begin: (head: Uint8Array, payloadBytes: number) => Incoming | undefined;
}

const PIECE = 7;
const EXTENDED = 20;
const PIECE_HEAD_BYTES = 13;
/** Length, kind 20, id of the extension. */
const EXTENDED_HEAD_BYTES = 6;

/** Takes what a socket received: hands messages to the wire and payload to its place. */
export function receive(wire: Wire, chunk: Uint8Array): void {
  const state = stateOf(wire);
  /** What lies in [from, at) is for the wire and not yet handed to it. */
  let from = 0;
  let at = 0;
  const handOver = (): void => {
    if (from < at) wire._write(chunk.subarray(from, at), ignore);
    from = at;
  };
  while (at < chunk.length) {
    if (wire.destroyed || state.connection?.destroyed === true) return;
    if (state.incoming !== undefined) {
      at += fill(state, state.incoming, chunk.subarray(at));
      from = at;
      continue;
    }
    if (from === at && !isAtMessage(wire)) {
      // The rest of a message that the wire has begun, or all, where it reads a handshake or nothing.
      at = Math.min(chunk.length, at + Math.max(1, wire._parserSize - wire._bufferSize));
      handOver();
      continue;
    }
    const headBytes = headOf(state, chunk, at);
    if (headBytes > 0) {
      const isNext = from === at;
      handOver();
      if (!isNext) continue; // what came before may have changed everything
      state.incoming = begin(state, wire, chunk.subarray(at, at + headBytes));
      if (state.incoming !== undefined) {
        at += headBytes;
        from = at;
        continue;
      }
    }
    at = Math.min(chunk.length, at + messageBytes(chunk, at));
  }
  if (!wire.destroyed && state.connection?.destroyed !== true) handOver();
}

function fill(state: WireState, incoming: Incoming, bytes: Uint8Array): number {
  const part = bytes.subarray(0, incoming.lengthBytes - incoming.received);
  incoming.target.set(part, incoming.received);
  incoming.received += part.length;
  if (incoming.received === incoming.lengthBytes) {
    state.incoming = undefined;
    incoming.onWhole();
  }
  return part.length;
}

function isAtMessage(wire: Wire): boolean {
  // oxlint-disable-next-line typescript/unbound-method -- compared, not called
  return wire._bufferSize === 0 && wire._parser === Wire.prototype._onMessageLength;
}

/** Bytes before the payload of a message that may take the direct way, if all of them are here; else 0. */
function headOf(state: WireState, chunk: Uint8Array, at: number): number {
  const kind = chunk[at + 4];
  const extension = state.extension;
  const bytes =
    kind === PIECE
      ? PIECE_HEAD_BYTES
      : kind === EXTENDED && extension !== undefined && chunk[at + 5] === extension.id
        ? EXTENDED_HEAD_BYTES + extension.headBytes
        : 0;
  return at + bytes <= chunk.length && messageBytes(chunk, at) > bytes ? bytes : 0;
}

/** Length of the message that begins there, its own four bytes of length with it; what is here of them where one is torn. */
function messageBytes(chunk: Uint8Array, at: number): number {
  if (at + 4 > chunk.length) return chunk.length - at;
  return 4 + uint32(chunk, at);
}

function begin(state: WireState, wire: Wire, head: Uint8Array): Incoming | undefined {
  const payloadBytes = messageBytes(head, 0) - head.length;
  if (head[4] === EXTENDED) return state.extension?.begin(head.subarray(EXTENDED_HEAD_BYTES), payloadBytes);
  const index = uint32(head, 5);
  const offset = uint32(head, 9);
  const target = state.asked.get(targetKey(index, offset))?.target;
  if (target?.length !== payloadBytes) return undefined;
  const incoming: Incoming = {
    target,
    received: 0,
    lengthBytes: payloadBytes,
    onWhole: () => wire._onPiece(index, offset, incoming.target),
  };
  return incoming;
}

/** Has what comes of a message that nobody waits for any more go nowhere. */
export function divert(state: WireState, target: Uint8Array): void {
  const { incoming } = state;
  if (incoming?.target !== target) return;
  incoming.target = new Uint8Array(target.length);
  incoming.target.set(target.subarray(0, incoming.received)); // it may be asked for again
}

/** Key of a block in {@link WireState.asked}: pieces have at most 1 MiB. */
export function targetKey(index: number, offset: number): number {
  return index * 2 ** 21 + offset;
}

function uint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

function ignore(): void {
  // the wire reads at once
}
