/** The sockets: a pool for each origin, through the proxy of the environment where there is one. */

import { Agent, buildConnector, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { loadAuthorities } from './authorities.ts';

const PROXY_VARIABLES = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY'] as const;

export interface DispatcherOptions {
  readonly connectionsPerOrigin: number;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  /** File with the certificates of the authorities for https; undefined: Node's. */
  readonly caFile: string | undefined;
}

/**
 * Makes the pools. `http_proxy`, `https_proxy` and `no_proxy` (either case) are respected.
 *
 * HTTP/1.1 only: a large NAR on an HTTP/2 stream is held to the stream's flow-control window per round trip,
 * and a lost packet would stall every other NAR on the connection.
 *
 * @throws NarswarmError HTTP_FAILED where there is a proxy and the certificates cannot be read
 */
export async function createDispatcher(options: DispatcherOptions): Promise<Dispatcher> {
  const { caFile, connectTimeoutMs: timeout } = options;
  const settings = {
    connections: options.connectionsPerOrigin,
    allowH2: false,
    // undici counts these from the moment the request is on the wire, and not while the reader holds the body back.
    headersTimeout: options.stallTimeoutMs,
    bodyTimeout: options.stallTimeoutMs,
  };
  if (!hasProxy(process.env)) return new Agent({ ...settings, connect: connectorFor(caFile, timeout) });
  const secureContext = await loadAuthorities(caFile);
  const tls = secureContext === undefined ? {} : { secureContext };
  return new EnvHttpProxyAgent({ ...settings, connect: { timeout, ...tls }, requestTls: tls });
}

/** Reads the certificates with the first https connection: plain http has no use for them. */
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

function hasProxy(environment: NodeJS.ProcessEnv): boolean {
  return PROXY_VARIABLES.some((name) => (environment[name] ?? '') !== '');
}
