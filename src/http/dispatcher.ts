/** The sockets: a pool for each origin, through the proxy from the environment if there is one. */

import { Agent, buildConnector, Dispatcher, ProxyAgent } from 'undici';
import { loadAuthorities } from './authorities.ts';
import { proxiesOf, type Proxies } from './proxy.ts';

export interface DispatcherOptions {
  readonly connectionsPerOrigin: number;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  /** File of certificate authorities for https. Undefined: those of Node. */
  readonly caFile: string | undefined;
}

/**
 * Makes the pools. Uses the proxies of the environment as curl does ({@link proxiesOf}).
 *
 * Uses HTTP/1.1 only. On HTTP/2 a large NAR would be limited to the stream's flow-control window per round trip, and a
 * lost packet would stall every other NAR on the connection.
 *
 * @throws NarswarmError HTTP_FAILED if the address of a proxy is malformed, or if the certificates cannot be read
 */
export async function createDispatcher(options: DispatcherOptions): Promise<Dispatcher> {
  const { caFile, connectTimeoutMs: timeout } = options;
  const settings = {
    connections: options.connectionsPerOrigin,
    allowH2: false,
    // undici counts these times only after the request was sent, and only while the reader is not holding the body
    // back.
    headersTimeout: options.stallTimeoutMs,
    bodyTimeout: options.stallTimeoutMs,
  };
  const direct = new Agent({ ...settings, connect: connectorFor(caFile, timeout) });
  const proxies = proxiesOf(process.env);
  if (proxies === undefined) return direct;
  const secureContext = await loadAuthorities(caFile);
  const tls = secureContext === undefined ? {} : { secureContext };
  const through = (uri: string | undefined): Dispatcher | undefined =>
    uri === undefined ? undefined : new ProxyAgent({ ...settings, uri, connect: { timeout, ...tls }, requestTls: tls });
  return new ProxySwitch(proxies, { direct, http: through(proxies.http), https: through(proxies.https) });
}

interface Ways {
  readonly direct: Dispatcher;
  readonly http: Dispatcher | undefined;
  readonly https: Dispatcher | undefined;
}

/** Sends each request through the proxy for its address, or directly. */
class ProxySwitch extends Dispatcher {
  readonly #proxies: Proxies;
  readonly #ways: Ways;

  constructor(proxies: Proxies, ways: Ways) {
    super();
    this.#proxies = proxies;
    this.#ways = ways;
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const url = new URL(options.origin ?? '');
    const { direct, http, https } = this.#ways;
    const proxy = url.protocol === 'https:' ? https : http;
    return (proxy === undefined || this.#proxies.passesBy(url) ? direct : proxy).dispatch(options, handler);
  }

  override async close(): Promise<void> {
    await Promise.all(this.#all().map((one) => one.close()));
  }

  override async destroy(): Promise<void> {
    await Promise.all(this.#all().map((one) => one.destroy()));
  }

  #all(): Dispatcher[] {
    const { direct, http, https } = this.#ways;
    return [direct, http, https].filter((one) => one !== undefined);
  }
}

/** Reads the certificates before the first https connection. Plain http does not need them. */
function connectorFor(caFile: string | undefined, timeout: number): buildConnector.connector {
  const plain = buildConnector({ timeout, allowH2: false });
  let secure: Promise<buildConnector.connector> | undefined;
  const connectSecurely = async (): Promise<buildConnector.connector> => {
    const secureContext = await loadAuthorities(caFile);
    return buildConnector({ timeout, allowH2: false, ...(secureContext === undefined ? {} : { secureContext }) });
  };
  return (target, callback) => {
    if (target.protocol !== 'https:') {
      plain(target, callback);
      return;
    }
    secure ??= connectSecurely();
    secure.then(
      (connect) => connect(target, callback),
      (error: Error) => callback(error, null),
    );
  };
}
