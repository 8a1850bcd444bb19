/** Opens connections to one origin, directly or through a proxy. */
import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import type { Socket } from 'node:net';
import { connectToAny } from './connect.ts';
import { cannotConnect, throughProxy } from '../transfer/failure.ts';
import { Reach } from './reach.ts';
import type { SenderOptions } from '../connection/sender.ts';
import { TlsClient } from './tls-client.ts';
import type { Tunnel } from './tunnel.ts';

/** A host and its port, as a socket takes them. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** A proxy on the way. */
export interface Detour {
  readonly proxy: URL;
  /** Leads a connection on to the origin. Undefined: the proxy reads the requests. */
  readonly tunnel: Tunnel | undefined;
}

export class Route {
  readonly #origin: Endpoint;
  readonly #detour: Detour | undefined;
  /** True if the bytes of the socket are those of the answers: without a tunnel and without TLS. */
  readonly #lendsReads: boolean;
  /** The host that sockets are connected to. */
  readonly #first: Endpoint;
  readonly #proxyTls: TlsClient | undefined;
  readonly #originTls: TlsClient | undefined;
  readonly #connectTimeoutMs: number;
  readonly #reach: Reach;
  #lookup: Promise<readonly LookupAddress[]> | undefined;

  constructor(origin: URL, detour: Detour | undefined, { connectTimeoutMs, giveUpMs, caFile }: SenderOptions) {
    this.#origin = endpointOf(origin);
    this.#detour = detour;
    this.#first = detour === undefined ? this.#origin : endpointOf(detour.proxy);
    this.#connectTimeoutMs = connectTimeoutMs;
    this.#reach = new Reach(giveUpMs);
    if (detour?.proxy.protocol === 'https:') this.#proxyTls = new TlsClient(this.#first.host, caFile);
    if (origin.protocol === 'https:') this.#originTls = new TlsClient(this.#origin.host, caFile);
    this.#lendsReads = this.#proxyTls === undefined && this.#originTls === undefined && detour?.tunnel === undefined;
  }

  /**
   * Opens a connection.
   *
   * @throws AttemptFailure if it takes too long, or if the host was given up ({@link Reach}); errors of the socket; the
   *   signal's reason
   */
  async open(closing: AbortSignal): Promise<Socket> {
    this.#reach.begin();
    const late = new AbortController();
    let isResolved = false;
    const withinMs = this.#connectTimeoutMs;
    const timer = setTimeout(() => late.abort(cannotConnect(withinMs, isResolved)), withinMs);
    const signal = AbortSignal.any([late.signal, closing]);
    const { host, port } = this.#first;
    let socket: Socket | undefined;
    try {
      const [secureProxy, secureOrigin] = await orAborted(
        Promise.all([this.#proxyTls?.prepare(), this.#originTls?.prepare()]),
        signal,
      );
      try {
        const addresses = await orAborted(this.#lookUp(host), signal);
        isResolved = true;
        socket = await connectToAny(addresses, port, signal, { lendsReads: this.#lendsReads });
        this.#reach.noteConnected();
        socket.setNoDelay(true);
        if (secureProxy !== undefined) socket = await orAborted(secureProxy(socket), signal);
        await orAborted(this.#detour?.tunnel?.(socket, this.#origin), signal);
      } catch (error) {
        if (this.#detour === undefined || closing.aborted) throw error;
        throw throughProxy(this.#detour.proxy, error);
      }
      return secureOrigin === undefined ? socket : await orAborted(secureOrigin(socket), signal);
    } catch (error) {
      socket?.destroy();
      throw closing.aborted ? error : this.#reach.failureOf(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Resolves the name once for all connections that are opened at the same time. Without a name server each lookup
   * takes a thread for seconds, and the names of other caches would wait for them.
   */
  #lookUp(host: string): Promise<readonly LookupAddress[]> {
    this.#lookup ??= lookup(host, { all: true }).finally(() => (this.#lookup = undefined));
    return this.#lookup;
  }
}

const PORTS: ReadonlyMap<string, number> = new Map([
  ['http:', 80],
  ['https:', 443],
  ['socks5:', 1080],
  ['socks:', 1080],
]);

function endpointOf({ hostname, port, protocol }: URL): Endpoint {
  return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port === '' ? PORTS.get(protocol)! : Number(port) };
}

/** Waits for a promise that cannot be aborted, until the signal is. @throws the signal's reason */
async function orAborted<T>(promise: T | Promise<T>, signal: AbortSignal): Promise<T> {
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
