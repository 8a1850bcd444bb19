import { isIPv4 } from 'node:net';
import { isIPv6 } from '../ip-version.ts';

/**
 * Returns the network that most likely belongs to one owner: 256 addresses of IPv4, 2^64 of IPv6. Limited room is
 * shared among these networks, since addresses inside one cost nothing.
 *
 * @param host an address, also IPv4-mapped or with a zone. Any other text is returned as it is
 */
export function rangeOf(host: string): string {
  const address = unmapped(host);
  if (isIPv4(address)) return `${address.slice(0, address.lastIndexOf('.'))}.0/24`;
  if (isIPv6(address)) return `${groupsOf(address).slice(0, 4).join(':')}::/64`;
  return host;
}

/** Returns the address without its zone, and an IPv4-mapped one as IPv4. */
function unmapped(host: string): string {
  const [address = ''] = host.split('%', 1);
  return asIPv4IfMapped(address);
}

/**
 * Spells an IPv4-mapped address (`::ffff:10.0.0.1`, `::ffff:a00:1`) as IPv4: a socket that listens on both IPv6 and IPv4
 * names IPv4 peers in the mapped form. Returns any other text unchanged.
 */
export function asIPv4IfMapped(host: string): string {
  const [, dotted, high, low] = MAPPED.exec(host) ?? [];
  if (dotted !== undefined) return dotted;
  if (high === undefined || low === undefined) return host;
  const [a, b] = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
  return [a >> 8, a & 255, b >> 8, b & 255].join('.');
}

const MAPPED = /^(?:::|(?:0{1,4}:){5})ffff:(?:(\d+\.\d+\.\d+\.\d+)|([\da-f]{1,4}):([\da-f]{1,4}))$/i;

/** Returns the eight groups of an IPv6 address, without leading zeros. */
function groupsOf(address: string): string[] {
  // The last two groups may be written as IPv4. They are beyond every range.
  const plain = address.replace(/\d+\.\d+\.\d+\.\d+$/, '0:0');
  const [head = '', tail] = plain.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...zeros, ...after].map((group) => Number.parseInt(group, 16).toString(16));
}

/**
 * Returns the key under which a host's connections are counted: its IPv4 address, or for IPv6 its network of 64 bits,
 * since one host may have all of its addresses. Hosts with a link-local address share `fe80::/64`, so their whole
 * address is the key.
 */
export function hostKeyOf(host: string): string {
  const address = unmapped(host);
  return isIPv6(address) && !/^fe[89ab]/i.test(address) ? rangeOf(address) : address;
}
