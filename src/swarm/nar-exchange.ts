import type { Wire } from 'webtorrent/lib/torrent.js';
import { giveBack, isLendingMuch, lend, takeBuffer } from '../bytes/lent-buffers.ts';
import { strangerAt, type PeerRecord, type PeerTable } from '../discovery/peer-table.ts';
import type { InfoHash } from '../nix/brands.ts';
import { MAX_UNSENT_PER_PEER_BYTES } from '../wire/bounds.ts';
import { extendedHead, extendedMessage } from '../wire/messages.ts';
import type { PeerConnection } from '../wire/peer-connection.ts';

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
  readonly #connection: PeerConnection;
  readonly #serve: ServeNar;
  readonly #peers: PeerTable;
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

  constructor(connection: PeerConnection, serve: ServeNar, peers: PeerTable) {
    this.#connection = connection;
    this.#serve = serve;
    this.#peers = peers;
    this.peer = peers.get(connection.address) ?? strangerAt(connection.address);
    connection.extensions.handle(EXCHANGE_NAME, (payload) => this.receive(payload));
    connection.on('room', () => this.#answer());
    connection.once('close', () => this.#end());
  }

  /** Record of the peer at the other end. */
  readonly peer: PeerRecord;

  /** `host:port` of the peer. */
  get address(): string {
    return this.#connection.address;
  }

  /** True once the peer has said that it speaks the extension, and while the connection stands. */
  get isOpen(): boolean {
    return !this.#connection.destroyed && this.#theirId !== undefined;
  }

  get #theirId(): number | undefined {
    return this.#connection.extensions.theirId(EXCHANGE_NAME);
  }

  /** Milliseconds that it could have sent something and did not; 0 where nothing is asked of it. */
  get silentMs(): number {
    if (this.#pending.size === 0) return 0;
    const backAtMs = this.peer.bytes > 0 ? this.#peers.line.backAtMs : 0;
    return Math.max(0, performance.now() - Math.max(this.#lastByteAtMs, this.#connection.heldUntilMs, backAtMs));
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
    this.#connection.destroy();
  }

  /** Takes a message of the peer. What breaks the protocol ends the connection. */
  receive(message: Uint8Array): void {
    const bytes = Buffer.from(message.buffer, message.byteOffset, message.length);
    const kind = bytes[0];
    if (kind === ASK && (bytes.length - 1) % ASK_ENTRY_BYTES === 0) this.#onAsk(bytes);
    else if (kind === PART && bytes.length > PART_HEAD_BYTES) this.#onPart(bytes);
    else if (kind === NONE && bytes.length === 5) this.#onNone(bytes.readUInt32BE(1));
    else this.#connection.refuse();
  }

  #sendAsks(): void {
    const entries = this.#outbox.splice(0);
    if (this.isOpen) this.#tell(Buffer.concat([Buffer.of(ASK), ...entries]));
    else this.#end();
  }

  #onAsk(bytes: Buffer): void {
    for (let at = 1; at < bytes.length; at += ASK_ENTRY_BYTES) {
      const infoHash = bytes.toString('hex', at + 4, at + ASK_ENTRY_BYTES) as InfoHash;
      this.#asks.push({ id: bytes.readUInt32BE(at), infoHash });
    }
    this.#reserve();
    if (this.#asks.length > MAX_OPEN_ASKS) this.#connection.refuse();
    else this.#answer();
  }

  /** Answers several at a time, as far as the peer reads. */
  #answer(): void {
    while (
      this.isOpen &&
      this.#reading < (isLendingMuch() ? 1 : READS) &&
      this.#connection.unsentBytes < MAX_UNSENT_PER_PEER_BYTES
    ) {
      const [ask] = this.#asks;
      if (ask === undefined) return;
      if (!this.#connection.takeRoom(MAX_NAR_BYTES)) return;
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
    this.#connection.reservedBytes = this.#reading * MAX_NAR_BYTES + this.#asks.length * ASK_BYTES;
  }

  #send(id: number, nar: Uint8Array | undefined): void {
    if (nar === undefined) {
      const none = Buffer.alloc(5, NONE);
      none.writeUInt32BE(id, 1);
      this.#tell(none);
      return;
    }
    lend(nar, Math.ceil(nar.length / PART_BYTES) - 1); // one for each part, where the reader was one
    for (let offset = 0; offset < nar.length; offset += PART_BYTES) {
      const part = nar.subarray(offset, offset + PART_BYTES);
      const head = Buffer.allocUnsafe(PART_HEAD_BYTES);
      head[0] = PART;
      head.writeUInt32BE(id, 1);
      head.writeUInt32BE(nar.length, 5);
      head.writeUInt32BE(offset, 9);
      const start = extendedHead(this.#theirId ?? 0, head.length + part.length);
      this.#connection.toPeer(Buffer.concat([start, head]), part);
    }
    this.#connection.activeAtMs = performance.now();
  }

  #tell(payload: Buffer): void {
    this.#connection.toPeer(extendedMessage(this.#theirId ?? 0, payload));
  }

  #onPart(message: Buffer): void {
    const payload = message.subarray(PART_HEAD_BYTES);
    const id = message.readUInt32BE(1);
    const pending = this.#pending.get(id);
    this.#lastByteAtMs = performance.now();
    this.#peers.line.onBytes(this.#lastByteAtMs);
    if (pending === undefined) {
      this.#abandonedBytes -= payload.length;
      if (this.#abandonedBytes < 0) this.#connection.refuse(); // nobody had asked for it
      return;
    }
    const { sizeBytes, received } = pending;
    const isNext = message.readUInt32BE(5) === sizeBytes && message.readUInt32BE(9) === received;
    if (!isNext || received + payload.length > sizeBytes) return this.#connection.refuse();
    pending.bytes ??= takeBuffer(sizeBytes).subarray(0, sizeBytes);
    pending.bytes.set(payload, received);
    pending.received += payload.length;
    this.peer.rate.add(payload.length, this.#lastByteAtMs);
    if (pending.received === sizeBytes) this.#settle(id, pending.bytes);
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

/** Puts the extension on a connection, before its handshake is sent. */
export function useNarExchange(connection: PeerConnection, wire: Wire, serve: ServeNar, peers: PeerTable): NarExchange {
  function Extension(): object {
    return {}; // the connection has its messages
  }
  Extension.prototype.name = EXCHANGE_NAME;
  wire.use(Extension);
  return new NarExchange(connection, serve, peers);
}
