/** A peer that speaks the wire protocol (BEP 3, 6, 10) by hand, so that it can send anything. */
import { EventEmitter, once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type { InfoHash } from '../../src/nix/brands.ts';

/** Ids of messages. */
export const ID = {
  CHOKE: 0,
  UNCHOKE: 1,
  INTERESTED: 2,
  HAVE: 4,
  BITFIELD: 5,
  REQUEST: 6,
  PIECE: 7,
  CANCEL: 8,
  HAVE_ALL: 14,
  REJECT: 16,
  EXTENDED: 20,
} as const;

/** A received message; `payload` is without its id. */
export interface Message {
  readonly id: number;
  readonly payload: Buffer;
}

/** One connection, after the handshakes of both sides. */
export class RawPeer {
  readonly socket: Socket;
  readonly messages: Message[] = [];
  #buffer = Buffer.alloc(0);
  #handshake: Buffer | undefined;
  readonly #news = new EventEmitter<{ news: [] }>();
  #onMessage: (message: Message) => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.on('error', () => undefined); // many tests wait until they are disconnected
    for (const event of ['data', 'end', 'close']) socket.on(event, () => this.#news.emit('news'));
    this.#news.setMaxListeners(0);
  }

  /** Connects and sends a handshake; `rest` follows in the same packet. Waits for no answer. */
  static async open(port: number, infoHash: InfoHash, rest: Uint8Array = Buffer.alloc(0)): Promise<RawPeer> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    const peer = new RawPeer(socket);
    socket.write(Buffer.concat([handshakeOf(infoHash), rest]));
    return peer;
  }

  /** Connects like {@link open}, and waits for the other side's handshake. */
  static async connect(port: number, infoHash: InfoHash): Promise<RawPeer> {
    const peer = await RawPeer.open(port, infoHash);
    await peer.until(() => peer.#handshake !== undefined);
    return peer;
  }

  /** The infohash in the other side's handshake. */
  get infoHash(): InfoHash {
    return (this.#handshake?.toString('hex', 28, 48) ?? '') as InfoHash;
  }

  get isOpen(): boolean {
    return !this.socket.destroyed && !this.socket.readableEnded;
  }

  onMessage(listener: (message: Message) => void): void {
    this.#onMessage = listener;
  }

  send(id: number, payload: Uint8Array = Buffer.alloc(0)): void {
    this.socket.write(message(id, payload));
  }

  /** Sends a message of an extension (BEP 10) under the receiver's `id`, 0 for the handshake. */
  extended(id: number, payload: string | Uint8Array): void {
    this.send(ID.EXTENDED, Buffer.concat([Buffer.from([id]), Buffer.from(payload)]));
  }

  /** Waits for the first message of that kind since the connection began. */
  async receive(id: number): Promise<Buffer> {
    await this.until(() => this.messages.some((one) => one.id === id));
    return this.messages.find((one) => one.id === id)!.payload;
  }

  /** Waits until the other side has closed the connection. */
  async closed(): Promise<void> {
    await this.until(() => !this.isOpen);
  }

  /** Waits until a condition holds. Checks it after each packet and at the end. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      if (!this.isOpen) throw new Error('the connection was closed');
      await once(this.#news, 'news');
    }
  }

  #take(bytes: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    if (this.#handshake === undefined) {
      if (this.#buffer.length < 68) return;
      this.#handshake = this.#buffer.subarray(0, 68);
      this.#buffer = this.#buffer.subarray(68);
    }
    while (this.#buffer.length >= 4 && this.#buffer.length >= 4 + this.#buffer.readUInt32BE(0)) {
      const end = 4 + this.#buffer.readUInt32BE(0);
      if (end > 4) {
        const one = { id: this.#buffer[4] ?? -1, payload: Buffer.from(this.#buffer.subarray(5, end)) };
        this.messages.push(one);
        this.#onMessage(one);
      }
      this.#buffer = this.#buffer.subarray(end);
    }
  }
}

export interface RawSeed extends AsyncDisposable {
  readonly port: number;
  readonly peers: RawPeer[];
}

/**
 * Listens on loopback, answers every handshake with one of its own, and then calls `onPeer`.
 *
 * @param infoHash undefined: it has every torrent that a peer names
 */
export async function startRawSeed(infoHash: InfoHash | undefined, onPeer: (peer: RawPeer) => void): Promise<RawSeed> {
  const peers: RawPeer[] = [];
  const welcome = (peer: RawPeer, named: InfoHash): void => {
    peers.push(peer);
    peer.socket.write(handshakeOf(named));
    onPeer(peer);
  };
  const server = createServer((socket) => {
    const peer = new RawPeer(socket);
    if (infoHash !== undefined) welcome(peer, infoHash);
    else
      peer
        .until(() => peer.infoHash !== '')
        .then(
          () => welcome(peer, peer.infoHash),
          () => undefined, // it has gone
        );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    peers,
    async [Symbol.asyncDispose]() {
      for (const peer of peers) peer.socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** Formats a message for the wire (BEP 3). */
export function message(id: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([numbers(payload.length + 1), Buffer.from([id]), payload]);
}

/** Formats numbers for the protocol: 32 bits, big-endian, negative ones as their two's complement. */
export function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeInt32BE(value | 0, index * 4);
  return bytes;
}

/** A handshake that announces the extension protocol and the fast extension. */
export function handshakeOf(infoHash: string, peerId = '-XX0000-aaaaaaaaaaaa'): Buffer {
  const reserved = Buffer.from([0, 0, 0, 0, 0, 0x10, 0, 0x04]);
  return Buffer.concat([
    Buffer.from('\x13BitTorrent protocol'),
    reserved,
    Buffer.from(infoHash, 'hex'),
    Buffer.from(peerId),
  ]);
}
