/** Sends requests through the proxies of the environment. Loaded only if there is one: undici takes 60 ms of processor. */
import { ProxyAgent } from 'undici';
import { loadAuthorities } from './authorities.ts';
import type { SenderOptions } from './create-sender.ts';
import type { Proxies } from './proxy.ts';
import type { Receiver, Sender, SentRequest } from './sender.ts';

/** @throws NarswarmError HTTP_FAILED if the certificates cannot be read */
export async function throughProxies(proxies: Proxies, direct: Sender, options: SenderOptions): Promise<Sender> {
  const { connectTimeoutMs: timeout, stallTimeoutMs, connectionsPerOrigin: connections, caFile } = options;
  const secureContext = await loadAuthorities(caFile);
  const tls = secureContext === undefined ? {} : { secureContext };
  // undici counts these times only after the request was sent, and only while the reader is not holding the body back.
  const settings = { connections, allowH2: false, headersTimeout: stallTimeoutMs, bodyTimeout: stallTimeoutMs };
  const through = (uri: string | undefined): ProxyAgent | undefined =>
    uri === undefined ? undefined : new ProxyAgent({ ...settings, uri, connect: { timeout, ...tls }, requestTls: tls });
  return new ProxySwitch(proxies, { direct, http: through(proxies.http), https: through(proxies.https) });
}

interface Ways {
  readonly direct: Sender;
  readonly http: ProxyAgent | undefined;
  readonly https: ProxyAgent | undefined;
}

/** Sends each request through the proxy for its address, or directly. */
class ProxySwitch implements Sender {
  readonly #proxies: Proxies;
  readonly #ways: Ways;

  constructor(proxies: Proxies, ways: Ways) {
    this.#proxies = proxies;
    this.#ways = ways;
  }

  dispatch(request: SentRequest, receiver: Receiver): void {
    const url = new URL(request.origin);
    const { direct, http, https } = this.#ways;
    const proxy = url.protocol === 'https:' ? https : http;
    if (proxy === undefined || this.#proxies.passesBy(url)) direct.dispatch(request, receiver);
    else proxy.dispatch(request, receiver);
  }

  async destroy(): Promise<void> {
    const { direct, http, https } = this.#ways;
    await Promise.all([direct.destroy(), http?.destroy(), https?.destroy()]);
  }
}
