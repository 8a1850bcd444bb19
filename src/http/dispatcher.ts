/** The sockets: a pool for each origin, through the proxy of the environment where there is one. */

import type tls from 'node:tls';
import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';

const PROXY_VARIABLES = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY'] as const;

export interface DispatcherOptions {
  readonly connectionsPerOrigin: number;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  /** The authorities for https; undefined: Node's. */
  readonly secureContext: tls.SecureContext | undefined;
}

/**
 * Makes the pools. `http_proxy`, `https_proxy` and `no_proxy` (either case) are respected.
 *
 * HTTP/1.1 only: a large NAR on an HTTP/2 stream is held to the stream's flow-control window per round trip,
 * and a lost packet would stall every other NAR on the connection.
 */
export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { connectTimeoutMs: timeout, secureContext } = options;
  const settings = {
    connections: options.connectionsPerOrigin,
    allowH2: false,
    connect: { timeout, ...(secureContext === undefined ? {} : { secureContext }) },
    // undici counts these from the moment the request is on the wire, and not while the reader holds the body back.
    headersTimeout: options.stallTimeoutMs,
    bodyTimeout: options.stallTimeoutMs,
  };
  if (!hasProxy(process.env)) return new Agent(settings);
  const requestTls = secureContext === undefined ? {} : { requestTls: { secureContext } };
  return new EnvHttpProxyAgent({ ...settings, ...requestTls });
}

function hasProxy(environment: NodeJS.ProcessEnv): boolean {
  return PROXY_VARIABLES.some((name) => (environment[name] ?? '') !== '');
}
