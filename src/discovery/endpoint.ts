/** The host and port of a peer or a DHT node, as people and flags write them. */
import { isIPv4 } from 'node:net';
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { isIPv6 } from '../ip-version.ts';
import { asIPv4IfMapped } from '../wire/address-range.ts';

/**
 * A TCP or UDP address. `host` is a name, or an IPv4 or IPv6 address without brackets. A link-local address has its
 * zone (`fe80::1%eth0`). `port` is 1 to 65535.
 */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

const MAX_PORT = 65_535;
const HOST_NAME = /^(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?$/i;

/**
 * Reads `HOST:PORT`, where HOST is an IPv4 address or a name, or `[IPV6]:PORT`, also with a zone. Does not look up
 * names. An IPv4-mapped address is read as IPv4, so that one host has one name.
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
  return { host: asIPv4IfMapped(host), port };
}

/** Formats an endpoint for {@link parseEndpoint}. Never throws. */
export function formatEndpoint({ host, port }: Endpoint): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Returns the host of an address that {@link formatEndpoint} has made, in its only spelling. */
export function hostOf(address: string): string {
  const host = address.slice(0, address.lastIndexOf(':'));
  return asIPv4IfMapped(host.startsWith('[') ? host.slice(1, -1) : host);
}

/** Returns true for a whole number from 1 to 65535. */
export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= MAX_PORT;
}

/** Returns false for digits and dots that are not an IPv4 address: they are a typing error, not a name. */
function isIPv4OrName(host: string): boolean {
  return isIPv4(host) || (HOST_NAME.test(host) && !/^[\d.]+$/.test(host));
}
