import { DirectSender } from './direct-sender.ts';
import { proxiesOf } from './proxy.ts';
import type { Sender } from './sender.ts';

export interface SenderOptions {
  readonly connectionsPerOrigin: number;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  /** File of certificate authorities for https. Undefined: those of Node. */
  readonly caFile: string | undefined;
}

/**
 * Makes the pools of sockets. Uses the proxies of the environment as curl does ({@link proxiesOf}).
 *
 * Uses HTTP/1.1 only. On HTTP/2 a large NAR would be limited to the stream's flow-control window per round trip, and a
 * lost packet would stall every other NAR on the connection.
 *
 * @throws NarswarmError HTTP_FAILED if the address of a proxy is malformed, or if the certificates for a proxy cannot be
 *   read
 */
export async function createSender(options: SenderOptions): Promise<Sender> {
  const direct = new DirectSender(options);
  const proxies = proxiesOf(process.env);
  if (proxies === undefined) return direct;
  const { throughProxies } = await import('./proxy-sender.ts');
  return throughProxies(proxies, direct, options);
}
