/** Where a peer or a DHT node is reached: a host and a port, in the spelling that people and flags use. */
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';

/** A TCP or UDP address. `host` is an IPv4 or IPv6 address without brackets, or a name; `port` is 1 to 65535. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

const MAX_PORT = 65_535;
const HOST_NAME = /^(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?$/i;

/** Loopback, RFC 1918, link-local and unique local addresses. Not 100.64/10: behind a carrier's NAT are strangers. */
const LAN = new BlockList();
LAN.addSubnet('127.0.0.0', 8);
LAN.addSubnet('10.0.0.0', 8);
LAN.addSubnet('172.16.0.0', 12);
LAN.addSubnet('192.168.0.0', 16);
LAN.addSubnet('169.254.0.0', 16);
LAN.addAddress('::1', 'ipv6');
LAN.addSubnet('fc00::', 7, 'ipv6');
LAN.addSubnet('fe80::', 10, 'ipv6');

/**
 * Reads `HOST:PORT`, where HOST is an IPv4 address or a name, or `[IPV6]:PORT`. The name is not looked up.
 *
 * @throws NarswarmError `USAGE`, naming the text.
 */
export function parseEndpoint(text: string): Endpoint {
  const [, bracketed, plain = '', digits = ''] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const isHost = bracketed === undefined ? isIPv4OrName(plain) : isIPv6(bracketed);
  const port = Number(digits);
  if (!isHost || !isPort(port)) {
    throw new NarswarmError(
      'USAGE',
      `${quote(text)} is not HOST:PORT or [IPV6]:PORT with a port from 1 to ${MAX_PORT}`,
    );
  }
  return { host, port };
}

/** The text that {@link parseEndpoint} reads. Never throws. */
export function formatEndpoint({ host, port }: Endpoint): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True for a whole number from 1 to 65535. */
export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= MAX_PORT;
}

/**
 * True where the address can only be that of this machine or of a network near it, also as an IPv4-mapped IPv6
 * address or with a zone (`fe80::1%eth0`). False for everything else, names included. Never throws.
 */
export function isLanAddress(ip: string): boolean {
  const [address = ''] = ip.split('%', 1);
  const family = isIP(address);
  return family !== 0 && LAN.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** Digits and dots that are no IPv4 address are a slip of the pen, not a name. */
function isIPv4OrName(host: string): boolean {
  return isIPv4(host) || (HOST_NAME.test(host) && !/^[\d.]+$/.test(host));
}
