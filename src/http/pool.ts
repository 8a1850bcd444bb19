import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { loadAuthorities } from './authorities.ts';
import { connectToAny } from './connect.ts';
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
  readonly #closing = new AbortController();
  #lookup: Promise<readonly LookupAddress[]> | undefined;
  #secureContext: Promise<SecureContext | undefined> | undefined;
  /** The TLS session of the last connection, which saves the next one a handshake. */
  #session: Buffer | undefined;

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
    this.#closing.abort(new Error('the HTTP client was closed'));
    for (const { socket } of this.#connections) socket.destroy();
  }

  #openMore(): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.hasEnded) this.#waiting.shift();
    const { connectionsPerOrigin } = this.#options;
    if (this.#closing.signal.aborted || this.#waiting.length <= this.#opening) return;
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
    if (this.#closing.signal.aborted) socket.destroy();
    else this.#free(connection);
  }

  /** Sends a request again if a used connection was closed before a byte of the answer came (RFC 9112, 9.3.1). */
  #onClose({ sending, isUsed }: Connection, failure: Error | undefined): void {
    if (sending === undefined) return;
    if (!isUsed || this.#closing.signal.aborted || !sending.canBeRepeated) {
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
    const { connectTimeoutMs } = this.#options;
    const late = new AbortController();
    let isResolved = false;
    const timer = setTimeout(() => late.abort(cannotConnect(connectTimeoutMs, isResolved)), connectTimeoutMs);
    const signal = AbortSignal.any([late.signal, this.#closing.signal]);
    const { host, port } = this.#address;
    try {
      const secure = this.#origin.protocol === 'https:' ? await orAborted(this.#prepareTls(), signal) : undefined;
      const addresses = await orAborted(this.#lookUp(host), signal);
      isResolved = true;
      const socket = await connectToAny(addresses, port, signal);
      socket.setNoDelay(true);
      if (secure === undefined) return socket;
      try {
        return await orAborted(secure(socket), signal);
      } catch (error) {
        socket.destroy();
        throw error;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  get #address(): { host: string; port: number } {
    const { hostname, port, protocol } = this.#origin;
    return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port || (protocol === 'https:' ? 443 : 80)) };
  }

  /**
   * Resolves the name once for all connections that are opened at the same time. Without a name server each lookup
   * takes a thread for seconds, and the names of other caches would wait for them.
   */
  #lookUp(host: string): Promise<readonly LookupAddress[]> {
    this.#lookup ??= lookup(host, { all: true }).finally(() => (this.#lookup = undefined));
    return this.#lookup;
  }

  /** Reads the certificates before the first https connection, since plain http does not need them. Returns a handshake. */
  async #prepareTls(): Promise<(connected: Socket) => Promise<Socket>> {
    this.#secureContext ??= loadAuthorities(this.#options.caFile);
    const [tls, { isIP }, secureContext] = await Promise.all([
      import('node:tls'),
      import('node:net'),
      this.#secureContext,
    ]);
    const { host } = this.#address;
    return (connected) => {
      const { promise, resolve, reject } = Promise.withResolvers<Socket>();
      const socket = tls.connect({
        socket: connected,
        host,
        ALPNProtocols: ['http/1.1'],
        ...(isIP(host) === 0 ? { servername: host.replace(/\.$/, '') } : {}),
        ...(secureContext === undefined ? {} : { secureContext }),
        ...(this.#session === undefined ? {} : { session: this.#session }),
      });
      socket.on('session', (session) => (this.#session = session));
      socket.on('error', reject).once('close', () => reject(hungUp()));
      socket.once('secureConnect', () => resolve(socket));
      return promise;
    };
  }
}

function hungUp(): Error {
  return Object.assign(new Error('the server closed the connection'), { code: 'ECONNRESET' });
}

/** Waits for a promise that cannot be aborted, until the signal is. @throws the signal's reason */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
