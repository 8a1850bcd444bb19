import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { ipVersion } from '../ip-version.ts';

/** A network: an address in it, and the number of bits that all its addresses share. */
export interface Subnet {
  readonly address: string;
  readonly prefixLength: number;
  readonly family: 'ipv4' | 'ipv6';
}

/** Shorter prefixes are refused as typing errors: nobody's network is a sixteenth of the internet. */
export const SHORTEST_PREFIX = { ipv4: 8, ipv6: 16 } as const;
const LONGEST_PREFIX = { ipv4: 32, ipv6: 128 } as const;

/** Reads `ADDRESS/BITS` (CIDR). @throws USAGE, naming the text */
export function parseSubnet(text: string): Subnet {
  const [, address = '', digits = ''] = /^([^/%]+)\/(\d{1,3})$/.exec(text) ?? [];
  const version = ipVersion(address);
  const family = version === 6 ? 'ipv6' : 'ipv4';
  const prefixLength = Number(digits);
  if (version === 0 || prefixLength > LONGEST_PREFIX[family])
    throw new NarswarmError(
      'USAGE',
      `${quote(text)} is not a network: expected one such as 10.20.0.0/16 or fd00:20::/32`,
    );
  if (prefixLength < SHORTEST_PREFIX[family])
    throw new NarswarmError(
      'USAGE',
      `${quote(text)} is too much of the internet to be local: give at least /${SHORTEST_PREFIX[family]}`,
    );
  return { address, prefixLength, family };
}
