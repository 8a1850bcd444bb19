/** Opens TCP connections to hosts with several addresses (RFC 8305, "Happy Eyeballs"), as curl does. */
import type { LookupAddress } from 'node:dns';
import { connect, type Socket } from 'node:net';
import { connectLent } from '../connection/lent-reads.ts';

/** Time after which the next address is tried, too. */
const HEAD_START_MS = 250;

/** Codes of addresses without a route from this machine. The failure of another address says more. */
const NO_WAY = new Set(['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/**
 * Connects to the first address that accepts. Tries the next one if an address has failed, or has not answered within
 * 250 ms, and does not give up those before it: on a slow line none would ever be waited for long enough. (Node does.)
 *
 * @param addresses at least one, in the order of the resolver. Those of IPv6 and IPv4 take turns
 * @param options.lendsReads true if all bytes of the socket are read by its `data` event: then they are lent ({@link
 *   connectLent})
 * @throws the signal's reason; the error of one address if all have failed
 */
export async function connectToAny(
  addresses: readonly LookupAddress[],
  port: number,
  signal: AbortSignal,
  { lendsReads = false }: { lendsReads?: boolean } = {},
): Promise<Socket> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const waiting = inTurns(addresses);
  const trying = new Set<Socket>();
  const failures: NodeJS.ErrnoException[] = [];
  let headStart: NodeJS.Timeout | undefined;
  const tryNext = (): void => {
    clearTimeout(headStart);
    const next = waiting.shift();
    if (next === undefined) {
      if (trying.size === 0) reject(tellingOf(failures));
      return;
    }
    const socket = (lendsReads ? connectLent : connect)({ host: next.address, port });
    trying.add(socket);
    socket.once('connect', () => resolve(socket));
    socket.on('error', (error) => {
      failures.push(error);
      if (trying.delete(socket)) tryNext();
    });
    if (waiting.length > 0) headStart = setTimeout(tryNext, HEAD_START_MS);
  };
  const abort = (): void => reject(signal.reason);
  signal.addEventListener('abort', abort);
  try {
    tryNext();
    const socket = await promise;
    trying.delete(socket);
    return socket;
  } finally {
    signal.removeEventListener('abort', abort);
    clearTimeout(headStart);
    for (const socket of trying) socket.destroy();
    trying.clear();
  }
}

/** Orders addresses so that the two families take turns, beginning with that of the first one. */
function inTurns(addresses: readonly LookupAddress[]): LookupAddress[] {
  const first = addresses.filter(({ family }) => family === addresses[0]?.family);
  const other = addresses.filter(({ family }) => family !== addresses[0]?.family);
  const longer = Math.max(first.length, other.length);
  return Array.from({ length: longer }, (_, at) => [first[at], other[at]])
    .flat()
    .filter((one) => one !== undefined);
}

function tellingOf(failures: readonly NodeJS.ErrnoException[]): Error {
  const telling = failures.find(({ code = '' }) => !NO_WAY.has(code)) ?? failures[0];
  return telling ?? new Error('the name has no address');
}
