/** Sends requests over pools of connections. */
import { authorizationFor, httpTunnel } from '../route/http-tunnel.ts';
import { Pool } from './pool.ts';
import { PoolSending } from './pool-sending.ts';
import { proxiesOf, type Proxies } from '../route/proxy.ts';
import { type Detour, Route } from '../route/route.ts';
import type { Receiver, Sender, SenderOptions, SentRequest } from './sender.ts';
import { socksTunnel } from '../route/socks.ts';
import { StallWatch } from '../transfer/stall-watch.ts';

/**
 * Makes a sender that uses the proxies of the environment as curl does ({@link proxiesOf}).
 *
 * @throws NarswarmError HTTP_FAILED if the address of a proxy is malformed
 */
export function openSender(environment: NodeJS.ProcessEnv, options: SenderOptions): Sender {
  return new PoolSender(proxiesOf(environment), options);
}

/** A pool, and the form in which its connections take requests. */
interface Way {
  readonly pool: Pool;
  readonly form: (request: SentRequest) => SentRequest;
}

/**
 * A pool of connections for each origin. Connections stay open between requests, and do not keep the process alive.
 *
 * Uses HTTP/1.1 only. On HTTP/2 a large NAR would be limited to the stream's flow-control window per round trip, and a
 * lost packet would stall every other NAR on the connection.
 */
class PoolSender implements Sender {
  readonly #proxies: Proxies | undefined;
  readonly #options: SenderOptions;
  readonly #ways = new Map<string, Way>();
  readonly #running = new Set<PoolSending>();
  readonly #watch = new StallWatch();
  #isClosed = false;

  constructor(proxies: Proxies | undefined, options: SenderOptions) {
    this.#proxies = proxies;
    this.#options = options;
  }

  dispatch(request: SentRequest, receiver: Receiver): void {
    if (this.#isClosed) {
      receiver.onResponseError(undefined, closed());
      return;
    }
    const { origin, bodyTimeout: bodyTimeoutMs } = request;
    const { stallTimeoutMs } = this.#options;
    const { pool, form } = this.#ways.get(origin) ?? this.#openWay(new URL(origin));
    this.#ways.set(origin, { pool, form });
    const sending = new PoolSending(form(request), receiver, { stallTimeoutMs, bodyTimeoutMs }, this.#watch, () =>
      this.#running.delete(sending),
    );
    this.#running.add(sending);
    receiver.onRequestStart(sending);
    pool.send(sending);
  }

  destroy(): Promise<void> {
    this.#isClosed = true;
    for (const sending of this.#running) sending.fail(closed());
    for (const { pool } of this.#ways.values()) pool.close();
    return Promise.resolve();
  }

  #openWay(origin: URL): Way {
    const proxy = this.#proxyFor(origin);
    const detour = proxy === undefined ? undefined : detourBy(proxy, origin);
    const pool = new Pool(new Route(origin, detour, this.#options), this.#options.connectionsPerOrigin);
    if (proxy === undefined || detour?.tunnel !== undefined) return { pool, form: (request) => request };
    return { pool, form: (request) => forProxy(request, authorizationFor(proxy)) };
  }

  #proxyFor(origin: URL): URL | undefined {
    const { http, https, passesBy } = this.#proxies ?? {};
    const proxy = origin.protocol === 'https:' ? https : http;
    return proxy === undefined || passesBy?.(origin) === true ? undefined : new URL(proxy);
  }
}

function closed(): Error {
  return new Error('the HTTP client was closed');
}

function detourBy(proxy: URL, origin: URL): Detour {
  if (proxy.protocol.startsWith('socks')) return { proxy, tunnel: socksTunnel(proxy) };
  return { proxy, tunnel: origin.protocol === 'https:' ? httpTunnel(authorizationFor(proxy)) : undefined };
}

/** Forms a request that an HTTP proxy reads (RFC 9112, 3.2.2). */
function forProxy(request: SentRequest, authorization: Readonly<Record<string, string>>): SentRequest {
  // Some proxies forget a request that they read together with the one before it.
  return {
    ...request,
    isShort: false,
    path: `${request.origin}${request.path}`,
    headers: { ...request.headers, ...authorization },
  };
}
