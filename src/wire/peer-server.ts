import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { HANDSHAKE_TIMEOUT_MS, MAX_CONNECTIONS, MSE_HANDSHAKES_PER_SECOND, READ_AHEAD_BYTES } from './bounds.ts';
import { ByteReader } from './byte-reader.ts';
import { agreeOnEncryption, KeyExchange, type Agreed } from './encryption.ts';
import { PacketBudget } from './packet-budget.ts';
import { listenAtFirst } from './ports.ts';
import { HANDSHAKE_BYTES, INFO_HASH_AT, INFO_HASH_BYTES, PROTOCOL } from './protocol.ts';

export interface PeerServerOptions {
  /** Address to listen on. Default: every address of the machine. */
  readonly host?: string | undefined;
  /** TCP ports. The first free one is used; 0 is any. */
  readonly ports: readonly number[];
  /** Returns true if this connection may continue. Called before a byte is read. It counts until it is closed. */
  readonly admit: (socket: Socket) => boolean;
  /** Returns the infohash served here for the SHA-1 (hex) of `req2` and itself: encryption hides it in this way. */
  readonly infoHashOf: (hashedInHex: string) => string | undefined;
  /** Called with a peer that has named a torrent. The socket is paused behind `head`. */
  readonly onPeer: (socket: Socket, opening: Agreed) => Promise<void>;
  readonly onWarning: (error: Error) => void;
}

/** Listens for peers. Finds out which torrent each of them wants, with or without encryption. */
export class PeerServer {
  readonly #server: Server;
  readonly #options: PeerServerOptions;
  readonly #opening = new Set<Socket>();
  readonly #keys = new KeyExchange();
  readonly #encryptions = new PacketBudget(MSE_HANDSHAKES_PER_SECOND);

  private constructor(options: PeerServerOptions) {
    this.#options = options;
    this.#server = createServer({ pauseOnConnect: true, highWaterMark: READ_AHEAD_BYTES }, (socket) =>
      this.#onConnection(socket),
    );
  }

  /** Starts to listen. Rejects with the system's error if the address, or none of the ports, can be used. */
  static async listen(options: PeerServerOptions): Promise<PeerServer> {
    return listenAtFirst(options.ports, async (port) => {
      const peers = new PeerServer(options);
      // A client opens one connection for each torrent: those that do not fit here come a second later.
      peers.#server.listen({ port, host: options.host, backlog: MAX_CONNECTIONS });
      await once(peers.#server, 'listening');
      peers.#server.on('error', options.onWarning);
      return peers;
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Frees the port, and closes the connections that are not in a swarm yet. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#opening) socket.destroy();
    await closed;
  }

  #onConnection(socket: Socket): void {
    socket.on('error', ignore); // a stranger's error is ignored
    if (!this.#options.admit(socket)) {
      socket.destroy();
      return;
    }
    this.#opening.add(socket);
    this.#open(socket)
      .catch(() => undefined) // a peer that breaks the protocol is disconnected
      .then(async (opening) => {
        if (opening === undefined || socket.destroyed) socket.destroy();
        else await this.#options.onPeer(socket, opening);
      })
      .catch((error: unknown) => {
        socket.destroy();
        this.#options.onWarning(error as Error);
      })
      .finally(() => this.#opening.delete(socket));
  }

  async #open(socket: Socket): Promise<Agreed | undefined> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), HANDSHAKE_TIMEOUT_MS);
    try {
      const reader = new ByteReader(socket, late.signal);
      const first = await reader.take(PROTOCOL.length);
      if (!PROTOCOL.equals(first)) {
        if (!this.#encryptions.admit(socket.remoteAddress ?? '')) return undefined;
        return await agreeOnEncryption(socket, reader, first, this.#keys, this.#options.infoHashOf);
      }
      const rest = await reader.take(HANDSHAKE_BYTES - PROTOCOL.length);
      const head = Buffer.concat([first, rest, reader.rest()]);
      const infoHash = head.toString('hex', INFO_HASH_AT, INFO_HASH_AT + INFO_HASH_BYTES);
      return { infoHash, cipher: undefined, head };
    } finally {
      clearTimeout(timer);
    }
  }
}

function ignore(): void {
  // 'close' reports the end of the connection
}
