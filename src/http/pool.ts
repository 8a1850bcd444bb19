import { connect, type Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import { loadAuthorities } from './authorities.ts';
import type { SenderOptions } from './create-sender.ts';
import type { DirectSending } from './direct-sending.ts';
import { cannotConnect } from './failure.ts';

/** Time for which an unused connection stays open. Many servers close theirs after 5 s. */
const IDLE_MS = 4_000;

/** An open connection, and the request that uses it. */
interface Connection {
  readonly socket: Socket;
  sending: DirectSending | undefined;
  /** True if it has served a request. The server may close it at the same moment as the next one is sent. */
  isUsed: boolean;
}

/** The connections to one origin. Requests beyond their number wait, the first one first. */
export class Pool {
  readonly #origin: URL;
  readonly #options: SenderOptions;
  readonly #connections = new Set<Connection>();
  /** The connections without a request. The last one was used last, and is open most likely. */
  readonly #idle: Connection[] = [];
  readonly #waiting: DirectSending[] = [];
  #opening = 0;
  #secureContext: Promise<SecureContext | undefined> | undefined;
  /** The TLS session of the last connection, which saves the next one a handshake. */
  #session: Buffer | undefined;
  #isClosed = false;

  constructor(origin: URL, options: SenderOptions) {
    this.#origin = origin;
    this.#options = options;
  }

  send(sending: DirectSending): void {
    const connection = this.#idle.pop();
    if (connection !== undefined) {
      this.#use(connection, sending);
      return;
    }
    this.#waiting.push(sending);
    this.#openMore();
  }

  close(): void {
    this.#isClosed = true;
    for (const { socket } of this.#connections) socket.destroy();
  }

  #openMore(): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.hasEnded) this.#waiting.shift();
    const { connectionsPerOrigin } = this.#options;
    if (this.#isClosed || this.#waiting.length <= this.#opening) return;
    if (this.#connections.size + this.#opening >= connectionsPerOrigin) return;
    this.#opening++;
    void this.#open()
      .then((socket) => this.#onOpen(socket))
      .catch((error: Error) => {
        this.#opening--;
        this.#next()?.fail(error);
        this.#openMore();
      });
  }

  #onOpen(socket: Socket): void {
    this.#opening--;
    const connection: Connection = { socket, sending: undefined, isUsed: false };
    this.#connections.add(connection);
    let failure: Error | undefined;
    socket.on('error', (error) => (failure = error));
    socket.on('data', (bytes: Buffer) => this.#onData(connection, bytes));
    socket.on('close', () => {
      this.#connections.delete(connection);
      const at = this.#idle.indexOf(connection);
      if (at !== -1) this.#idle.splice(at, 1);
      this.#onClose(connection, failure);
      this.#openMore();
    });
    socket.setTimeout(0);
    socket.on('timeout', () => socket.destroy());
    if (this.#isClosed) socket.destroy();
    else this.#free(connection);
  }

  /** Sends a request again if a used connection was closed before a byte of the answer came (RFC 9112, 9.3.1). */
  #onClose({ sending, isUsed }: Connection, failure: Error | undefined): void {
    if (sending === undefined) return;
    if (!isUsed || this.#isClosed || !sending.canBeRepeated) {
      sending.onClose(failure);
      return;
    }
    sending.detach();
    this.#waiting.unshift(sending);
  }

  #onData(connection: Connection, bytes: Buffer): void {
    const { sending, socket } = connection;
    if (sending === undefined) {
      socket.destroy(); // an answer that nobody asked for
      return;
    }
    sending.onData(bytes);
    if (!sending.hasEnded) return;
    connection.sending = undefined;
    connection.isUsed = true;
    if (sending.leavesConnection) this.#free(connection);
    else socket.destroy();
  }

  /** Gives a connection to the next request, or keeps it. */
  #free(connection: Connection): void {
    const next = this.#next();
    if (next !== undefined) {
      this.#use(connection, next);
      return;
    }
    this.#idle.push(connection);
    connection.socket.resume();
    connection.socket.setTimeout(IDLE_MS);
    connection.socket.unref();
  }

  #use(connection: Connection, sending: DirectSending): void {
    connection.sending = sending;
    connection.socket.setTimeout(0);
    connection.socket.ref();
    connection.socket.resume();
    try {
      sending.begin(connection.socket);
    } catch (error) {
      sending.fail(error as Error);
    }
  }

  #next(): DirectSending | undefined {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
      if (!next.hasEnded) return next;
    return undefined;
  }

  /** Opens a connection. @throws AttemptFailure if it takes too long; errors of the socket */
  async #open(): Promise<Socket> {
    const isSecure = this.#origin.protocol === 'https:';
    const socket = isSecure ? await this.#connectSecurely() : connect(this.#address);
    socket.setNoDelay(true);
    const { connectTimeoutMs } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => socket.destroy(cannotConnect(connectTimeoutMs)), connectTimeoutMs);
    socket.once(isSecure ? 'secureConnect' : 'connect', resolve);
    socket.once('error', reject);
    socket.once('close', () =>
      reject(Object.assign(new Error('the server closed the connection'), { code: 'ECONNRESET' })),
    );
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      socket.off('error', reject);
      socket.on('error', () => undefined);
    }
    return socket;
  }

  get #address(): { host: string; port: number } {
    const { hostname, port, protocol } = this.#origin;
    return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port || (protocol === 'https:' ? 443 : 80)) };
  }

  /** Reads the certificates before the first https connection. Plain http does not need them. */
  async #connectSecurely(): Promise<TLSSocket> {
    this.#secureContext ??= loadAuthorities(this.#options.caFile);
    const [tls, { isIP }, secureContext] = await Promise.all([
      import('node:tls'),
      import('node:net'),
      this.#secureContext,
    ]);
    const { host } = this.#address;
    const socket = tls.connect({
      ...this.#address,
      ALPNProtocols: ['http/1.1'],
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(secureContext === undefined ? {} : { secureContext }),
      ...(this.#session === undefined ? {} : { session: this.#session }),
    });
    socket.on('session', (session) => (this.#session = session));
    return socket;
  }
}
