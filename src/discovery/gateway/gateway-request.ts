/** HTTP requests to a router. It is a stranger: large or late answers do not count. */
import { request } from 'node:http';
import type { Place } from './mapping.ts';

/** The longest description seen has 20 KB. */
const MAX_ANSWER_BYTES = 128 * 1024;
const MAX_HEAD_BYTES = 8 * 1024;
const TIMEOUT_MS = 5_000;

export interface GatewayRequest {
  readonly headers?: Readonly<Record<string, string>>;
  /** Makes it a POST. */
  readonly body?: string;
}

export interface GatewayAnswer {
  readonly status: number;
  readonly text: string;
}

/**
 * Asks a router. Follows no redirect, uses no proxy and no password, and goes to the router's address, whichever host
 * the URL names.
 *
 * @returns undefined if it does not answer in time, says too much, or breaks off
 */
export function askGateway(
  { gateway, own }: Place,
  { port, pathname, search }: URL,
  { headers = {}, body }: GatewayRequest,
  signal: AbortSignal,
): Promise<GatewayAnswer | undefined> {
  const { promise, resolve } = Promise.withResolvers<GatewayAnswer | undefined>();
  const sent = request({
    host: gateway,
    port: port === '' ? 80 : Number(port),
    path: `${pathname}${search}`,
    method: body === undefined ? 'GET' : 'POST',
    localAddress: own,
    agent: false,
    maxHeaderSize: MAX_HEAD_BYTES,
    headers: {
      ...headers,
      Connection: 'close',
      ...(body !== undefined && { 'Content-Length': Buffer.byteLength(body) }),
    },
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
  });
  const giveUp = (): void => {
    resolve(undefined);
    sent.destroy();
  };
  sent.on('error', giveUp);
  sent.on('upgrade', (_answer, socket) => {
    socket.destroy(); // another protocol, which nobody asked for; without this, no event would follow
    giveUp();
  });
  sent.on('response', (response) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on('error', giveUp);
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_ANSWER_BYTES) giveUp();
      else chunks.push(chunk);
    });
    response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    response.on('close', giveUp);
  });
  sent.end(body);
  return promise;
}
