/** Finds the router of this network, and this machine's address towards it. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { BlockList } from 'node:net';
import type { MappingFailure, Place } from './mapping.ts';

/** IPv4 addresses that nobody on the internet can connect to. */
const PRIVATE = new BlockList();
for (const [network, prefixLength] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // between the NAT of a provider and its customers
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24], // behind DS-Lite
  ['192.168.0.0', 16],
  ['224.0.0.0', 3],
] as const)
  PRIVATE.addSubnet(network, prefixLength);

/** Returns true for an IPv4 address that cannot be reached from the internet. */
export function isPrivate(ipv4: string): boolean {
  return PRIVATE.check(ipv4);
}

const RTF_GATEWAY = 0x2;

/** Returns the gateway of the default route with the lowest metric. @param text `/proc/net/route` of Linux */
export function defaultGateway(text: string): string | undefined {
  const routes = text.split('\n').flatMap((line) => {
    const [, destination, gateway, flags, , , metric, mask] = line.trim().split(/\s+/);
    if (destination !== '00000000' || mask !== '00000000' || gateway === undefined) return [];
    if ((Number.parseInt(flags ?? '', 16) & RTF_GATEWAY) === 0) return [];
    return [{ gateway, metric: Number(metric) }];
  });
  const [first] = routes.toSorted((a, b) => a.metric - b.metric);
  if (first === undefined || !/^[0-9A-F]{8}$/i.test(first.gateway)) return undefined;
  return [...Buffer.from(first.gateway, 'hex')].toReversed().join('.'); // in the order of a little-endian processor
}

/**
 * Finds the router and this machine's address towards it.
 *
 * @param listen the value of `--listen`; undefined, `0.0.0.0` and `::` mean every address
 * @returns the reason if there is nothing to map
 */
export async function findPlace(listen: string | undefined): Promise<Place | MappingFailure> {
  const routes = await readFile('/proc/self/net/route', 'utf8').catch(() => '');
  const gateway = defaultGateway(routes);
  if (gateway === undefined) return 'no-gateway';
  const isOne = listen !== undefined && listen !== '0.0.0.0' && listen !== '::';
  const own = await addressTowards(gateway, isOne ? listen : undefined);
  if (own === undefined) return 'listen';
  return isPrivate(own) ? { gateway, own } : 'public-address';
}

/** Returns the address from which packets to a host are sent. Sends nothing. Undefined if none can be. */
async function addressTowards(host: string, from: string | undefined): Promise<string | undefined> {
  if (from !== undefined && from.includes(':')) return undefined;
  const socket = createSocket('udp4');
  socket.on('error', () => undefined);
  try {
    socket.bind({ port: 0, ...(from !== undefined && { address: from }), exclusive: true });
    await once(socket, 'listening');
    socket.connect(9, host);
    await once(socket, 'connect');
    return socket.address().address;
  } catch {
    return undefined;
  } finally {
    socket.close();
  }
}
