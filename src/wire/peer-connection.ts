import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { giveBack } from '../bytes/lent-buffers.ts';
import { AskingSide } from './asking-side.ts';
import type { ReadBlocks } from './block-answer.ts';
import { Brake, type Backpressure } from './backpressure.ts';
import { MAX_UNREAD_ANSWERS_BYTES } from './bounds.ts';
import type { StreamCipher } from './encryption.ts';
import type { Ends } from './ends.ts';
import { handshakeForSwarm, SILENT_PEER } from './extended-handshake.ts';
import { Extensions } from './extensions.ts';
import { IncomingMessages } from './incoming-messages.ts';
import type { TorrentShape } from './message-guard.ts';
import { OutgoingMessages } from './outgoing-messages.ts';
import { PacedSocket } from './paced-socket.ts';
import type { HostTime } from './processor-budget.ts';
import { EXTENDED_AT, EXTENDED_BIT, FAST_AT, FAST_BIT, KIND } from './protocol.ts';
import { isForPeer, isForSwarm, type Sides } from './routes.ts';
import { ServingSide } from './serving-side.ts';
import type { Receiver, SendBudget } from './send-budget.ts';

export interface PeerConnectionOptions {
  /** Unique among the connections of the torrent. */
  readonly id: string;
  /** Address of the peer: `host` (an IPv6 address in brackets) and port. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Returns the shape that the peer's messages are checked against. Undefined while it is unknown. */
  readonly shape: () => TorrentShape | undefined;
  /** Returns true if these bytes are the metadata of the torrent. */
  readonly isMetadata: (bytes: Buffer) => boolean;
  /** False if the peer gets nothing. */
  readonly gives: boolean;
  /** Returns true for pieces that the peer may get. */
  readonly holds: (index: number) => boolean;
  /** Reads blocks of these pieces. */
  readonly read: ReadBlocks;
  /** Memory for the requests of all peers. */
  readonly budget: SendBudget;
  /** Processor time of the peer's host. */
  readonly time: HostTime;
  /** Limit on the rate of reading, over all peers. */
  readonly downloadLimit?: RateLimit | undefined;
  /** Limit on the rate of answers. */
  readonly uploadLimit?: RateLimit | undefined;
  /** Receiver of the blocks. Nothing is read from the peer while it is full. */
  readonly disk?: Backpressure | undefined;
  /** Called with the payload bytes of each sent block. */
  readonly onUpload?: (bytes: number) => void;
  readonly cipher?: StreamCipher | undefined;
}

/** Bytes of a request, and of the block that most clients ask for with one. */
const [REQUEST_BYTES, BLOCK_BYTES] = [17, 16 * 1024] as const;

/**
 * The only connection to a peer. WebTorrent takes it through its public `addPeer`. Cuts out and checks every message,
 * in both directions, before anything else sees it. Requests of the peer wait for room. Bytes of the peer count only if
 * they were requested. Disconnects a peer that breaks the protocol.
 */
export class PeerConnection extends Duplex implements Receiver, Ends {
  readonly id: string;
  readonly connected = true;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Our requests to the peer. */
  readonly asking = new AskingSide(this);
  /** The extensions that both sides speak. */
  readonly extensions: Extensions;
  /** When the peer last requested or sent a block, in milliseconds of `performance.now()`. */
  activeAtMs = performance.now();
  hasFast = false;
  readonly #socket: PacedSocket;
  readonly #time: HostTime;
  readonly #serving: ServingSide;
  readonly #sides: Sides;
  readonly #incoming: IncomingMessages;
  readonly #outgoing: OutgoingMessages;
  /** Messages for the swarm that are adjacent in memory. */
  #forSwarm: Buffer | undefined;
  #hasHandshake = false;
  /** Bytes whose time is still to be left out: blocks that we asked for, and requests of blocks that the peer took. */
  #welcomeBytes = 0;
  /** Stops reading while the swarm does not take messages. */
  readonly #swarm = new Brake();

  /**
   * @param head bytes that were already read, decrypted, and are used only here. They begin with the peer's handshake
   */
  constructor(socket: Socket, options: PeerConnectionOptions, head?: Buffer) {
    super({ allowHalfOpen: false });
    this.id = options.id;
    this.remoteAddress = options.remoteAddress;
    this.remotePort = options.remotePort;
    this.#time = options.time;
    this.#incoming = new IncomingMessages({
      shape: options.shape,
      extension: (id) => this.extensions.nameOf(id),
      onMessage: (message) => this.#onMessage(message),
      onRead: () => this.#flush(),
      refuse: () => this.refuse(),
    });
    this.#socket = new PacedSocket(socket, {
      cipher: options.cipher,
      limit: options.downloadLimit,
      readers: [this.#incoming.brake, this.#swarm, ...(options.disk === undefined ? [] : [options.disk])],
      time: options.time,
      onBytes: (bytes) => this.#take(bytes),
      onTaken: () => this.#onRoom(),
    });
    this.#serving = new ServingSide(this, {
      gives: options.gives,
      holds: options.holds,
      read: options.read,
      pieceLength: () => options.shape()?.pieceLength ?? 0,
      takeTurn: (answer) => options.budget.turns.take(this, answer),
      unsentBytes: () => this.unsentBytes,
      take: (bytes) => options.budget.take(this, bytes, () => this.#onRoom()),
      note: (bytes) => options.budget.note(bytes),
      limit: options.uploadLimit,
      onUpload: (bytes) => {
        this.#welcomeBytes += (bytes / BLOCK_BYTES) * REQUEST_BYTES;
        options.onUpload?.(bytes);
      },
      askMetadata: (piece) => this.extensions.metadata.ask(piece),
    });
    this.extensions = new Extensions(this, {
      asking: this.asking,
      serving: this.#serving,
      isMetadata: options.isMetadata,
      onHandshake: () => this.emit('extensions'),
    });
    this.#sides = {
      asking: this.asking,
      serving: this.#serving,
      extensions: this.extensions,
      hasFast: () => this.hasFast,
      onBlock: () => void (this.activeAtMs = performance.now()),
    };
    this.#outgoing = new OutgoingMessages({
      send: (bytes) => this.#send(bytes),
      isForPeer: (message) => isForPeer(message, this.#sides),
    });
    options.budget.add(this);
    this.once('close', () => {
      options.budget.remove(this);
      this.asking.end();
      this.#serving.end();
      this.extensions.metadata.cancel();
    });
    if (head !== undefined) this.#time.spend(() => this.#take(head));
    socket.once('end', () => this.push(null));
    socket.on('error', () => this.destroy()); // an ended connection is not worth reporting
    socket.once('close', () => this.destroy());
    if (socket.destroyed) this.destroy();
  }

  /** `host:port`, as in the peer table. The port of an incoming connection is not an address. */
  get address(): string {
    return `${this.remoteAddress}:${this.remotePort}`;
  }

  /** Number of bytes received from the peer. */
  get receivedBytes(): number {
    return this.#incoming.receivedBytes;
  }

  get host(): string {
    return this.remoteAddress;
  }

  get unsentBytes(): number {
    return this.writableLength + this.#socket.unsentBytes;
  }

  /** Time until which our own rate limit stops reading, in milliseconds of `performance.now()`. */
  get heldUntilMs(): number {
    return this.#socket.heldUntilMs;
  }

  get heldBytes(): number {
    return this.#serving.heldBytes + this.unsentBytes;
  }

  get unreadSinceMs(): number | undefined {
    return this.unsentBytes > 0 ? this.#socket.takenAtMs : undefined;
  }

  close(): void {
    this.destroy();
  }

  /**
   * Starts to read what follows the peer's handshake, in a later turn of the event loop: then the swarm that accepted
   * the peer is listening. An eager peer sends everything in its first packet.
   *
   * @param extensions names of extensions, by the ids that the peer must use (BEP 10)
   */
  welcome(extensions: Readonly<Record<number, string>>): void {
    setImmediate(() => {
      this.extensions.speak(extensions);
      if (this.destroyed) return;
      const welcome = (): number => {
        this.#incoming.welcome();
        return 1;
      };
      this.#time.spend(welcome, { andAfter: true });
    });
  }

  toPeer(message: Buffer): void {
    this.#outgoing.say(message);
  }

  toSwarm(message: Buffer): void {
    const before = this.#forSwarm;
    if (before?.buffer === message.buffer && before.byteOffset + before.length === message.byteOffset) {
      this.#forSwarm = Buffer.from(before.buffer, before.byteOffset, before.length + message.length);
      return;
    }
    this.#flush();
    this.#forSwarm = message;
    if (before === undefined) queueMicrotask(() => this.#flush());
  }

  refuse(): void {
    this.#forSwarm = undefined;
    this.destroy();
  }

  override _read(): void {
    this.#swarm.release();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      this.#outgoing.write(bytes);
    } catch (error) {
      return done(error as Error); // ends the connection, not the process
    }
    this.#socket.whenDrained(done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  /** Handles bytes of the peer. @returns the share of them that is not welcome */
  #take(bytes: Buffer): number {
    if (!this.destroyed) this.#incoming.take(bytes);
    const welcomeBytes = Math.min(bytes.length, this.#welcomeBytes);
    this.#welcomeBytes -= welcomeBytes; // a block arrives in several chunks, and counts with its last one
    return bytes.length === 0 ? 0 : 1 - welcomeBytes / bytes.length;
  }

  #flush(): void {
    const bytes = this.#forSwarm;
    this.#forSwarm = undefined;
    if (bytes !== undefined && !this.destroyed && !this.push(bytes)) this.#swarm.pull();
  }

  /** Handles a message of the peer that the guard has accepted. */
  #onMessage(message: Buffer): void {
    if (this.destroyed) return;
    if (!this.#hasHandshake) return this.#onHandshake(message);
    if (!isForSwarm(message, this.#sides)) return;
    if (message[4] === KIND.PIECE) this.#welcomeBytes += message.length; // others do not get here
    this.toSwarm(message);
  }

  #onHandshake(message: Buffer): void {
    this.#hasHandshake = true;
    this.hasFast = ((message[FAST_AT] ?? 0) & FAST_BIT) !== 0; // the swarm always speaks this extension
    this.toSwarm(message);
    const isExtended = ((message[EXTENDED_AT] ?? 0) & EXTENDED_BIT) !== 0;
    if (!isExtended) this.toSwarm(handshakeForSwarm(SILENT_PEER));
  }

  #send(bytes: Uint8Array): void {
    if (this.destroyed) return giveBack(bytes);
    this.#socket.write(bytes);
    if (this.unsentBytes > MAX_UNREAD_ANSWERS_BYTES) this.refuse(); // a client that reads never leaves so much
  }

  #onRoom(): void {
    if (!this.destroyed) this.#serving.pump();
  }
}
