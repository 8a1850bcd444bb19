import { isIPv4, SocketAddress } from 'node:net';

/** The characters of an IPv6 address, and its zone. */
const IPV6_WITH_ZONE = /^([\da-f:.]+)(?:%[\w.:-]+)?$/i;

/**
 * Returns the version of an IP address, as Node's `isIP` does. Node checks IPv6 by a regular expression that takes four
 * milliseconds of processor to compile, a fiftieth of the start of a fetch.
 */
export function ipVersion(text: string): 0 | 4 | 6 {
  if (isIPv4(text)) return 4;
  const [, address] = text.includes(':') ? (IPV6_WITH_ZONE.exec(text) ?? []) : [];
  if (address === undefined) return 0;
  try {
    return new SocketAddress({ address, family: 'ipv6' }).family === 'ipv6' ? 6 : 0;
  } catch {
    return 0;
  }
}

/** Returns true for an IPv6 address, with or without a zone. */
export function isIPv6(text: string): boolean {
  return ipVersion(text) === 6;
}
