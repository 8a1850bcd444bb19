import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import type { StreamCipher } from './encryption.ts';
import { MessageGuard, type TorrentShape } from './message-guard.ts';
import { HANDSHAKE_BYTES } from './protocol.ts';

export interface PeerConnectionOptions {
  /** Unlike that of any other connection of the torrent. */
  readonly id: string;
  /** Address of the peer as `host` (an IPv6 address in brackets) and port. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Shape that the peer's messages are checked against; undefined while it is not known. */
  readonly shape: () => TorrentShape | undefined;
  /** Bytes that were read from the socket already, in the clear; they begin with the peer's handshake. */
  readonly head?: Buffer;
  readonly cipher?: StreamCipher | undefined;
}

/**
 * The one connection to a peer: what comes out of it has been framed and checked, and a peer that breaks the protocol is
 * disconnected. Has the members by which WebTorrent's public `addPeer` takes a stream.
 */
export class PeerConnection extends Duplex {
  readonly id: string;
  readonly connected = true;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Bytes that the peer has sent. */
  receivedBytes = 0;
  /** When the peer last took what was sent, or was first sent what it has not taken; `performance.now()`. */
  takenAtMs = performance.now();
  readonly #socket: Socket;
  readonly #cipher: StreamCipher | undefined;
  readonly #guard: MessageGuard;
  #extensions: Readonly<Record<number, string>> | undefined;
  /** Bytes behind the peer's handshake that came before it was welcomed. */
  #held: Buffer | undefined;

  constructor(socket: Socket, options: PeerConnectionOptions) {
    super({ allowHalfOpen: false });
    this.id = options.id;
    this.remoteAddress = options.remoteAddress;
    this.remotePort = options.remotePort;
    this.#socket = socket;
    this.#cipher = options.cipher;
    this.#guard = new MessageGuard({ shape: options.shape, extension: (id) => this.#extensions?.[id] });
    socket.setNoDelay(true); // Nagle's algorithm adds 44 ms to each exchange
    if (options.head !== undefined) this.#take(options.head);
    socket.on('data', (bytes: Buffer) => this.#take(this.#cipher === undefined ? bytes : this.#cipher.decrypt(bytes)));
    socket.once('end', () => this.push(null));
    socket.on('error', () => this.destroy()); // a peer that is gone is no news
    socket.once('close', () => this.destroy());
    if (socket.destroyed) this.destroy();
  }

  /**
   * Begins to read what follows the peer's handshake, in a later turn: by then the swarm that has taken the peer in
   * listens. An eager peer says everything in its first packet.
   *
   * @param extensions which the peer has to call by these ids (BEP 10)
   */
  welcome(extensions: Readonly<Record<number, string>>): void {
    setImmediate(() => {
      this.#extensions = extensions;
      const held = this.#held;
      this.#held = undefined;
      if (held !== undefined) this.#pass(held);
      if (!this.destroyed) this.#socket.resume();
    });
  }

  override _read(): void {
    if (this.#held === undefined) this.#socket.resume();
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.takenAtMs = performance.now();
    this.#socket.write(this.#sealed(bytes), this.#onTaken(done));
  }

  override _writev(
    chunks: readonly { chunk: Uint8Array; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    this.takenAtMs = performance.now();
    // One system call for all of it.
    this.#socket.cork();
    for (const [index, { chunk }] of chunks.entries()) {
      this.#socket.write(this.#sealed(chunk), index === chunks.length - 1 ? this.#onTaken(done) : undefined);
    }
    this.#socket.uncork();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  #take(bytes: Buffer): void {
    if (this.destroyed) return;
    const handshakeBytes = Math.max(0, HANDSHAKE_BYTES - this.receivedBytes);
    this.receivedBytes += bytes.length;
    if (this.#extensions !== undefined) {
      this.#pass(bytes);
      return;
    }
    if (handshakeBytes > 0) this.#pass(bytes.subarray(0, handshakeBytes));
    if (bytes.length <= handshakeBytes) return;
    const rest = bytes.subarray(handshakeBytes);
    this.#held = this.#held === undefined ? rest : Buffer.concat([this.#held, rest]);
    this.#socket.pause();
  }

  #pass(bytes: Buffer): void {
    if (this.destroyed) return;
    if (!this.#guard.accept(bytes)) this.destroy();
    else if (!this.push(bytes)) this.#socket.pause();
  }

  #sealed(bytes: Uint8Array): Uint8Array {
    return this.#cipher === undefined ? bytes : this.#cipher.encrypt(bytes);
  }

  #onTaken(done: (error?: Error | null) => void): (error?: Error | null) => void {
    return (error) => {
      this.takenAtMs = performance.now();
      done(error);
    };
  }
}
