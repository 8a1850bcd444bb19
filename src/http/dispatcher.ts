/** The sockets: a pool for each origin, through the proxy of the environment where there is one. */

import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import type { HttpClientOptions } from './options.ts';

const PROXY_VARIABLES = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY'] as const;

/**
 * Makes the pools. `http_proxy`, `https_proxy` and `no_proxy` (either case) are respected.
 *
 * HTTP/1.1 only: a large NAR on an HTTP/2 stream is held to the stream's flow-control window per round trip,
 * and a lost packet would stall every other NAR on the connection.
 */
export function createDispatcher(options: Required<HttpClientOptions>): Dispatcher {
  const settings = {
    connections: options.connectionsPerOrigin,
    allowH2: false,
    connect: { timeout: options.connectTimeoutMs },
    // undici counts these from the moment the request is on the wire, and not while the reader holds the body back.
    headersTimeout: options.stallTimeoutMs,
    bodyTimeout: options.stallTimeoutMs,
  };
  return hasProxy(process.env) ? new EnvHttpProxyAgent(settings) : new Agent(settings);
}

function hasProxy(environment: NodeJS.ProcessEnv): boolean {
  return PROXY_VARIABLES.some((name) => (environment[name] ?? '') !== '');
}
