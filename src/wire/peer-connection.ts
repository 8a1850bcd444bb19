import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { AskingSide } from './asking-side.ts';
import { MAX_UNREAD_ANSWERS_BYTES } from './bounds.ts';
import type { StreamCipher } from './encryption.ts';
import type { Ends } from './ends.ts';
import { handshakeForSwarm, SILENT_PEER } from './extended-handshake.ts';
import { Extensions } from './extensions.ts';
import { MessageGuard, type TorrentShape } from './message-guard.ts';
import { MessageReader } from './message-reader.ts';
import { OutgoingMessages } from './outgoing-messages.ts';
import { PacedSocket } from './paced-socket.ts';
import { EXTENDED_AT, EXTENDED_BIT, FAST_AT, FAST_BIT, HANDSHAKE_BYTES, KIND } from './protocol.ts';
import { ServingSide } from './serving-side.ts';
import type { Receiver, SendBudget } from './send-budget.ts';

export interface PeerConnectionOptions {
  /** Unlike that of any other connection of the torrent. */
  readonly id: string;
  /** Address of the peer as `host` (an IPv6 address in brackets) and port. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Shape that the peer's messages are checked against; undefined while it is not known. */
  readonly shape: () => TorrentShape | undefined;
  /** True if these bytes are the metadata of the torrent. */
  readonly isMetadata: (bytes: Buffer) => boolean;
  /** False: the peer is given nothing. */
  readonly gives: boolean;
  /** True for pieces that the peer may be given. */
  readonly holds: (index: number) => boolean;
  /** Memory for what all peers ask for. */
  readonly budget: SendBudget;
  /** What comes from all peers is read no faster. */
  readonly downloadLimit?: RateLimit | undefined;
  /** What the peer asks for is answered no faster. */
  readonly uploadLimit?: RateLimit | undefined;
  /** Nothing is read while this says so; then {@link PeerConnection.readOn} is to be called. */
  readonly isHeldUp?: () => boolean;
  /** Called with the payload bytes of each block that is sent. */
  readonly onUpload?: (bytes: number) => void;
  readonly cipher?: StreamCipher | undefined;
}

/** Where the block of a PIECE begins. */
const BLOCK_AT = 13;

/**
 * The one connection to a peer, with the swarm at the near end: WebTorrent's public `addPeer` takes it. Every message
 * is cut out and checked before anybody sees it, in both directions: what the peer asks for waits for room, what it
 * sends counts only if it was asked for, and a peer that breaks the protocol is disconnected.
 */
export class PeerConnection extends Duplex implements Receiver, Ends {
  readonly id: string;
  readonly connected = true;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** What is asked of the peer. */
  readonly asking = new AskingSide(this);
  /** The extensions that both sides speak. */
  readonly extensions: Extensions;
  /** Bytes that the peer has sent. */
  receivedBytes = 0;
  /** When the peer last asked for a block or sent one; `performance.now()`. */
  activeAtMs = performance.now();
  hasFast = false;
  readonly #options: PeerConnectionOptions;
  readonly #socket: PacedSocket;
  readonly #serving: ServingSide;
  readonly #guard: MessageGuard;
  readonly #incoming = new MessageReader();
  readonly #outgoing: OutgoingMessages;
  /** Messages for the swarm that follow each other in memory. */
  #forSwarm: Buffer | undefined;
  #isWelcome = false;
  /** Bytes behind the peer's handshake that came before it was welcomed. */
  #held: Buffer | undefined;
  #hasHandshake = false;
  #isSwarmFull = false;

  /** @param head bytes that were read already, in the clear, which nobody keeps; they begin with the peer's handshake */
  constructor(socket: Socket, options: PeerConnectionOptions, head?: Buffer) {
    super({ allowHalfOpen: false });
    this.#options = options;
    this.id = options.id;
    this.remoteAddress = options.remoteAddress;
    this.remotePort = options.remotePort;
    this.#socket = new PacedSocket(socket, {
      cipher: options.cipher,
      limit: options.downloadLimit,
      isHeldUp: () => this.#isHeldUp(),
      onBytes: (bytes) => this.#take(bytes),
      onTaken: () => this.#onRoom(),
    });
    this.#guard = new MessageGuard({ shape: options.shape, extension: (id) => this.extensions.nameOf(id) });
    this.#serving = new ServingSide(this, {
      gives: options.gives,
      holds: options.holds,
      unsentBytes: () => this.unsentBytes,
      take: (bytes) => options.budget.take(this, bytes, () => this.#onRoom()),
      note: (bytes) => options.budget.note(bytes),
      limit: options.uploadLimit,
      onUpload: (bytes) => options.onUpload?.(bytes),
      askMetadata: (piece) => this.extensions.metadata.ask(piece),
    });
    this.extensions = new Extensions(this, {
      asking: this.asking,
      serving: this.#serving,
      isMetadata: options.isMetadata,
      onHandshake: () => this.emit('extensions'),
    });
    this.#outgoing = new OutgoingMessages({
      send: (bytes) => this.#send(bytes),
      isForPeer: (message) => this.#isForPeer(message),
      onBlock: (index, offset, length) => this.#serving.onSent(index, offset, length),
    });
    options.budget.add(this);
    this.once('close', () => {
      options.budget.remove(this);
      this.asking.end();
      this.extensions.metadata.cancel();
    });
    if (head !== undefined) this.#take(head);
    socket.once('end', () => this.push(null));
    socket.on('error', () => this.destroy()); // a peer that is gone is no news
    socket.once('close', () => this.destroy());
    if (socket.destroyed) this.destroy();
  }

  /** `host:port`, as the peer table has it; the port of an incoming connection is nobody's address. */
  get address(): string {
    return `${this.remoteAddress}:${this.remotePort}`;
  }

  get host(): string {
    return this.remoteAddress;
  }

  get unsentBytes(): number {
    return this.writableLength + this.#socket.unsentBytes;
  }

  /** Until when our own rate limit reads nothing of it; milliseconds of `performance.now()`. */
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
   * Begins to read what follows the peer's handshake, in a later turn: by then the swarm that has taken the peer in
   * listens. An eager peer says everything in its first packet.
   *
   * @param extensions which the peer has to call by these ids (BEP 10)
   */
  welcome(extensions: Readonly<Record<number, string>>): void {
    setImmediate(() => {
      this.extensions.speak(extensions);
      this.#isWelcome = true;
      const held = this.#held;
      this.#held = undefined;
      if (held !== undefined) this.#pass(held);
      this.readOn();
    });
  }

  /** Reads from the socket again, if nothing else stands against it. */
  readOn(): void {
    this.#socket.readOn();
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
    this.#isSwarmFull = false;
    this.readOn();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      this.#outgoing.write(bytes);
    } catch (error) {
      return done(error as Error); // costs the connection, and not the process
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

  #isHeldUp(): boolean {
    return this.#held !== undefined || this.#isSwarmFull || this.destroyed || this.#options.isHeldUp?.() === true;
  }

  #take(bytes: Buffer): void {
    if (this.destroyed) return;
    const handshakeBytes = Math.max(0, HANDSHAKE_BYTES - this.receivedBytes);
    this.receivedBytes += bytes.length;
    if (this.#isWelcome) {
      this.#pass(bytes);
    } else {
      if (handshakeBytes > 0) this.#pass(bytes.subarray(0, handshakeBytes));
      const rest = bytes.subarray(handshakeBytes);
      if (rest.length > 0) this.#held = this.#held === undefined ? rest : Buffer.concat([this.#held, rest]);
    }
  }

  #pass(bytes: Buffer): void {
    if (this.destroyed) return;
    try {
      if (this.#guard.accept(bytes)) this.#incoming.read(bytes, (message) => this.#onMessage(message));
      else this.refuse();
    } catch {
      this.refuse(); // what nobody has foreseen costs a stranger's connection, never the process
    }
    this.#flush();
  }

  #flush(): void {
    const bytes = this.#forSwarm;
    this.#forSwarm = undefined;
    if (bytes !== undefined && !this.destroyed && !this.push(bytes)) this.#isSwarmFull = true;
  }

  /** A message of the peer, which the guard has found sound. */
  #onMessage(message: Buffer): void {
    if (this.destroyed) return;
    if (!this.#hasHandshake) return this.#onHandshake(message);
    if (this.#isForSwarm(message)) this.toSwarm(message);
  }

  #onHandshake(message: Buffer): void {
    this.#hasHandshake = true;
    this.hasFast = ((message[FAST_AT] ?? 0) & FAST_BIT) !== 0; // the swarm always speaks it
    this.toSwarm(message);
    const isExtended = ((message[EXTENDED_AT] ?? 0) & EXTENDED_BIT) !== 0;
    if (!isExtended) this.toSwarm(handshakeForSwarm(SILENT_PEER));
  }

  /** Does what a message of the peer asks for. @returns whether the swarm is to see it */
  #isForSwarm(message: Buffer): boolean {
    const number = (at: number): number => message.readUInt32BE(5 + 4 * at);
    switch (message[4]) {
      case KIND.INTERESTED:
        this.#serving.onInterested();
        return true;
      case KIND.UNINTERESTED:
      case KIND.HAVE:
      case KIND.BITFIELD:
      case KIND.HAVE_ALL:
      case KIND.HAVE_NONE:
        return true;
      case KIND.CHOKE:
        return this.asking.onChoke();
      case KIND.UNCHOKE:
        return this.asking.onUnchoke();
      case KIND.REQUEST:
        this.activeAtMs = performance.now();
        this.#serving.onRequest(number(0), number(1), number(2));
        return false;
      case KIND.CANCEL:
        this.#serving.onCancel(number(0), number(1), number(2));
        return false;
      case KIND.PIECE:
        this.activeAtMs = performance.now();
        return this.asking.onBlock(number(0), number(1), message.subarray(BLOCK_AT));
      case KIND.REJECT:
        return this.hasFast ? this.asking.onReject(number(0), number(1)) : true;
      case KIND.EXTENDED:
        return this.extensions.onMessage(message[5] ?? 0, message.subarray(6));
      default:
        return false; // nothing that anybody here reads
    }
  }

  /** Looks at a message of the swarm. @returns whether the peer is to hear it */
  #isForPeer(message: Buffer): boolean {
    const number = (at: number): number => message.readUInt32BE(5 + 4 * at);
    switch (message[4]) {
      case KIND.CHOKE:
        return this.#serving.onChoke();
      case KIND.UNCHOKE:
        return this.#serving.onUnchoke();
      case KIND.REQUEST:
        return this.asking.onRequest(number(0), number(1), number(2));
      case KIND.REJECT:
        this.#serving.onRejected(number(0), number(1), number(2));
        return true;
      case KIND.PIECE: // one whose head came in parts
        this.#serving.onSent(number(0), number(1), message.length - BLOCK_AT);
        return true;
      case KIND.EXTENDED:
        return message[5] === 0 || this.extensions.metadata.onSent(message[5] ?? 0, message.subarray(6));
      default:
        return true;
    }
  }

  #send(bytes: Uint8Array): void {
    if (this.destroyed) return;
    this.#socket.write(bytes);
    if (this.unsentBytes > MAX_UNREAD_ANSWERS_BYTES) this.refuse(); // no client that reads leaves so much
  }

  #onRoom(): void {
    if (!this.destroyed) this.#serving.pump();
  }
}
