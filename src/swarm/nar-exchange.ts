import type Wire from 'bittorrent-protocol';
import type { InfoHash } from '../nix/brands.ts';
import { MAX_UNSENT_PER_PEER_BYTES } from '../wire/bounds.ts';
import type { Incoming } from './direct-payload.ts';
import { giveBack, isLendingMuch, lend, takeBuffer } from '../bytes/lent-buffers.ts';
import { strangerAt, type PeerRecord } from '../discovery/peer-table.ts';
import { refuse } from './wire-guard.ts';
import { silentSince, stateOf } from './wire-state.ts';

/**
 * The extension `nar_exchange` (BEP 10): whole small NARs over the one connection that two members of a cohort have, in
 * place of a connection and two handshakes for each. Its messages, integers big-endian:
 *
 *     1 ASK   <id: 4> <infohash: 20>                 (repeated: several at once)
 *     2 PART  <id: 4> <size: 4> <offset: 4> <bytes>  (in order; the NAR is whole after `size` bytes)
 *     3 NONE  <id: 4>                                (not here, or not for you)
 *
 * Whoever lacks the extension is served by plain BitTorrent, which is also what larger NARs take.
 */
export const EXCHANGE_NAME = 'nar_exchange';

/** Kind of every message of an extension (BEP 10). */
const EXTENDED = 20;
const ASK = 1;
const PART = 2;
const NONE = 3;
const ASK_ENTRY_BYTES = 24;
const PART_HEAD_BYTES = 13;
/** Short enough for a slow line to show a sign of life now and then; far below the longest message accepted. */
const PART_BYTES = 32 * 1024;
/** Questions that a peer may have open; ours are bounded by the lanes of the scheduler. */
const MAX_OPEN_ASKS = 1024;
/** The longest NAR of one piece. */
const MAX_NAR_BYTES = 1024 * 1024;
/** Bytes that a waiting question takes. */
const ASK_BYTES = 150;
/**
 * NARs that are looked up and read at a time for one peer: each takes some waits for the disk. With what waits already they
 * stay below what makes a peer count as one that does not read (upload-window.ts).
 */
const READS = 3;
/** A connection over which nothing comes of what was asked for so long is closed. */
const STALL_MS = 5_000;
/** The same where the peer has sent before, and no peer at all sends now: it may be the line, which comes back. */
const LINE_OUT_MS = 15_000;
const LOOK_EVERY_MS = 250;
/** A member may be fetching too: what it lacked before it may have now. */
const LACKS_MS = 2_000;
/** NARs that a peer is remembered to lack; a whole channel has a hundred thousand. */
const MAX_LACKS = 4096;

/** Gives the bytes of a small NAR that may be served to the peer at `host:port`, lent, or undefined. */
export type ServeNar = (infoHash: InfoHash, address: string) => Promise<Uint8Array | undefined>;

interface Pending {
  readonly infoHash: InfoHash;
  readonly sizeBytes: number;
  readonly resolve: (bytes: Uint8Array | undefined) => void;
  bytes: Uint8Array | undefined;
  received: number;
}

/** One end of the extension on one connection: asks, and answers what it is asked. */
export class NarExchange {
  readonly #wire: Wire;
  readonly #serve: ServeNar;
  readonly #onPayload: () => void;
  readonly #pending = new Map<number, Pending>();
  readonly #asks: { id: number; infoHash: InfoHash }[] = [];
  readonly #lacks = new Map<InfoHash, number>();
  readonly #outbox: Buffer[] = [];
  #nextId = 1;
  #reading = 0;
  #lastByteAtMs = 0;
  /** Bytes that were asked for, were given up on, and may still come. */
  #abandonedBytes = 0;
  /** Bytes asked for and not yet here. */
  inFlightBytes = 0;

  /** @param id by which the peer calls the extension */
  constructor(wire: Wire, serve: ServeNar, onPayload: () => void, id: number) {
    this.#wire = wire;
    this.#serve = serve;
    this.#onPayload = onPayload;
    const state = stateOf(wire);
    state.onRoom = () => this.#answer();
    state.extension = {
      id,
      headBytes: PART_HEAD_BYTES,
      begin: (head, payloadBytes) =>
        this.#beginPart(Buffer.from(head.buffer, head.byteOffset, head.length), payloadBytes),
    };
    wire.once('close', () => this.#end());
  }

  /** `host:port` of the peer. */
  get address(): string {
    return stateOf(this.#wire).address;
  }

  /** True once the peer has said that it speaks the extension, and while the connection stands. */
  get isOpen(): boolean {
    // Id 0 takes an extension back (BEP 10), and WebTorrent throws where it is to be sent.
    return !this.#wire.destroyed && (this.#wire.peerExtendedMapping[EXCHANGE_NAME] ?? 0) > 0;
  }

  /** Record of the peer at the other end. */
  get peer(): PeerRecord {
    return (stateOf(this.#wire).peer ??= strangerAt(this.address));
  }

  /** Milliseconds that it could have sent something and did not; 0 where nothing is asked of it. */
  get silentMs(): number {
    if (this.#pending.size === 0) return 0;
    return Math.max(0, performance.now() - Math.max(this.#lastByteAtMs, silentSince(stateOf(this.#wire))));
  }

  /** Bytes that come before an answer to a question that is asked now. */
  get queuedBytes(): number {
    return this.inFlightBytes + Math.max(0, this.#abandonedBytes);
  }

  /** Bytes that are still to come up to the end of a NAR that was asked for. */
  bytesUntil(infoHash: InfoHash): number {
    let sum = Math.max(0, this.#abandonedBytes);
    for (const { infoHash: one, sizeBytes, received } of this.#pending.values()) {
      sum += sizeBytes - received;
      if (one === infoHash) return sum;
    }
    return sum;
  }

  /** True where the peer has answered a moment ago that it has no such NAR. */
  lacks(infoHash: InfoHash): boolean {
    return performance.now() - (this.#lacks.get(infoHash) ?? -Infinity) < LACKS_MS;
  }

  /**
   * Asks for a NAR; undefined if the peer lacks it, goes away or sends nothing at all for `patienceMs`. Questions of one
   * tick leave together.
   */
  ask(
    infoHash: InfoHash,
    sizeBytes: number,
    options: { patienceMs: number; isLineSilent: () => boolean; signal: AbortSignal },
  ): Promise<Uint8Array | undefined> {
    if (options.signal.aborted) return Promise.resolve(undefined);
    const id = this.#nextId++;
    const entry = Buffer.alloc(ASK_ENTRY_BYTES);
    entry.writeUInt32BE(id, 0);
    entry.write(infoHash, 4, 'hex');
    if (this.#outbox.push(entry) === 1) queueMicrotask(() => this.#sendAsks());
    this.inFlightBytes += sizeBytes;
    if (this.#pending.size === 0) this.#lastByteAtMs = performance.now();
    this.peer.rate.begin(performance.now());
    const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
    const timer = setInterval(() => {
      const { silentMs } = this;
      const isLine = this.peer.bytes > 0 && options.isLineSilent(); // and not the peer, which has sent before
      const stallMs = Math.min(options.patienceMs, STALL_MS);
      if (silentMs > (isLine ? LINE_OUT_MS : stallMs)) this.drop();
      else if (silentMs > options.patienceMs) giveUp();
    }, LOOK_EVERY_MS);
    const giveUp = (): void => {
      this.#abandonedBytes += sizeBytes - (this.#pending.get(id)?.received ?? sizeBytes);
      this.#settle(id, undefined);
    };
    options.signal.addEventListener('abort', giveUp, { once: true });
    this.#pending.set(id, { infoHash, sizeBytes, resolve, bytes: undefined, received: 0 });
    return promise.finally(() => {
      clearInterval(timer);
      options.signal.removeEventListener('abort', giveUp);
    });
  }

  /** Closes the connection; open questions end with undefined. */
  drop(): void {
    this.#wire.destroy();
  }

  /** Takes a message of the peer. What breaks the protocol ends the connection. */
  receive(message: Uint8Array): void {
    const bytes = Buffer.from(message.buffer, message.byteOffset, message.length);
    const kind = bytes[0];
    if (kind === ASK && (bytes.length - 1) % ASK_ENTRY_BYTES === 0) this.#onAsk(bytes);
    else if (kind === PART && bytes.length > PART_HEAD_BYTES) this.#onPart(bytes);
    else if (kind === NONE && bytes.length === 5) this.#onNone(bytes.readUInt32BE(1));
    else refuse(this.#wire);
  }

  #sendAsks(): void {
    const entries = this.#outbox.splice(0);
    if (this.isOpen) this.#wire.extended(EXCHANGE_NAME, Buffer.concat([Buffer.of(ASK), ...entries]));
    else this.#end();
  }

  #onAsk(bytes: Buffer): void {
    for (let at = 1; at < bytes.length; at += ASK_ENTRY_BYTES) {
      const infoHash = bytes.toString('hex', at + 4, at + ASK_ENTRY_BYTES) as InfoHash;
      this.#asks.push({ id: bytes.readUInt32BE(at), infoHash });
    }
    this.#reserve();
    if (this.#asks.length > MAX_OPEN_ASKS) refuse(this.#wire);
    else this.#answer();
  }

  /** Answers several at a time, as far as the peer reads. */
  #answer(): void {
    while (
      this.isOpen &&
      this.#reading < (isLendingMuch() ? 1 : READS) &&
      this.#wire._readableState.buffered < MAX_UNSENT_PER_PEER_BYTES
    ) {
      const [ask] = this.#asks;
      if (ask === undefined) return;
      if (stateOf(this.#wire).budget?.take(this.#wire, MAX_NAR_BYTES, () => this.#answer()) === false) return;
      this.#asks.shift();
      this.#reading++;
      this.#reserve();
      void this.#serve(ask.infoHash, this.address)
        .catch(() => undefined)
        .then((nar) => {
          this.#reading--;
          this.#reserve();
          if (this.isOpen) this.#send(ask.id, nar);
          else if (nar !== undefined) giveBack(nar);
          this.#answer();
        })
        .catch(() => this.drop()); // whatever it is, it costs this connection and not the process
    }
  }

  /** Notes what the answers to come take, which is known when they have been read. */
  #reserve(): void {
    stateOf(this.#wire).reservedBytes = this.#reading * MAX_NAR_BYTES + this.#asks.length * ASK_BYTES;
  }

  #send(id: number, nar: Uint8Array | undefined): void {
    if (nar === undefined) {
      const none = Buffer.alloc(5, NONE);
      none.writeUInt32BE(id, 1);
      this.#wire.extended(EXCHANGE_NAME, none);
      return;
    }
    lend(nar, Math.ceil(nar.length / PART_BYTES) - 1); // one for each part, where the reader was one
    for (let offset = 0; offset < nar.length; offset += PART_BYTES) {
      const part = nar.subarray(offset, offset + PART_BYTES);
      const head = Buffer.allocUnsafe(6 + PART_HEAD_BYTES);
      head.writeUInt32BE(head.length - 4 + part.length, 0); // a message of BEP 3, of kind 20 (BEP 10)
      head[4] = EXTENDED;
      head[5] = this.#wire.peerExtendedMapping[EXCHANGE_NAME] ?? 0;
      head[6] = PART;
      head.writeUInt32BE(id, 7);
      head.writeUInt32BE(nar.length, 11);
      head.writeUInt32BE(offset, 15);
      this.#wire._push(head);
      this.#wire._push(part);
    }
    stateOf(this.#wire).activeAtMs = performance.now();
  }

  /** A PART that came through the wire. */
  #onPart(message: Buffer): void {
    const payload = message.subarray(PART_HEAD_BYTES);
    const id = message.readUInt32BE(1);
    if (!this.#pending.has(id)) {
      this.#abandonedBytes -= payload.length;
      this.#lastByteAtMs = performance.now();
      this.#onPayload();
      if (this.#abandonedBytes < 0) refuse(this.#wire); // nobody had asked for it
      return;
    }
    const incoming = this.#beginPart(message, payload.length);
    if (incoming === undefined) {
      refuse(this.#wire);
      return;
    }
    incoming.target.set(payload);
    incoming.onWhole();
  }

  /** Where the payload of a PART goes: undefined where it is not the next one of a NAR that was asked for. */
  #beginPart(head: Buffer, payloadBytes: number): Incoming | undefined {
    const id = head.readUInt32BE(1);
    const pending = this.#pending.get(id);
    if (head[0] !== PART || pending === undefined) return undefined;
    const { sizeBytes, received } = pending;
    const isNext = head.readUInt32BE(5) === sizeBytes && head.readUInt32BE(9) === received;
    if (!isNext || received + payloadBytes > sizeBytes) return undefined;
    pending.bytes ??= takeBuffer(sizeBytes).subarray(0, sizeBytes);
    const onWhole = (): void => {
      pending.received += payloadBytes;
      this.#lastByteAtMs = performance.now();
      this.peer.rate.add(payloadBytes, this.#lastByteAtMs);
      this.#onPayload();
      if (pending.received === sizeBytes) this.#settle(id, pending.bytes);
    };
    const target = pending.bytes.subarray(received, received + payloadBytes);
    return { target, received: 0, lengthBytes: payloadBytes, onWhole };
  }

  #onNone(id: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#lastByteAtMs = performance.now();
    if (this.#lacks.size >= MAX_LACKS) this.#lacks.clear();
    this.#lacks.set(pending.infoHash, performance.now());
    this.#settle(id, undefined);
  }

  #settle(id: number, bytes: Uint8Array | undefined): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.inFlightBytes -= pending.sizeBytes;
    this.peer.rate.end(performance.now());
    pending.resolve(bytes);
  }

  #end(): void {
    for (const id of this.#pending.keys()) this.#settle(id, undefined);
  }
}

/**
 * Puts the extension on a connection, before its handshake is sent.
 *
 * @param onPayload called when bytes have come that were asked for
 */
export function useNarExchange(wire: Wire, serve: ServeNar, onPayload: () => void): NarExchange {
  let exchange: NarExchange | undefined;
  function Extension(): object {
    return { onMessage: (message: Uint8Array) => exchange?.receive(message) };
  }
  Extension.prototype.name = EXCHANGE_NAME;
  wire.use(Extension);
  const [id] = Object.entries(wire.extendedMapping).find(([, name]) => name === EXCHANGE_NAME) ?? [];
  exchange = new NarExchange(wire, serve, onPayload, Number(id));
  return exchange;
}
