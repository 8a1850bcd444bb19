/** Lists the places to send multicast from: the interfaces of this machine, in the form for groups. */
import type { Place } from './lan-group.ts';
import type { LocalInterface } from './local-networks.ts';
import { isIPv6 } from '../ip-version.ts';

/** Limit on used interfaces, hardware first. */
const MAX_INTERFACES = 64;

/** Places of both families. */
export interface Places {
  readonly ipv4: readonly Place[];
  readonly ipv6: readonly Place[];
}

/**
 * Returns the places of all interfaces.
 *
 * @param chosen the address of the only interface to use. Default: all
 */
export function placesIn(interfaces: readonly LocalInterface[], chosen?: string): Places {
  return chosen === undefined ? placesOf(interfaces.slice(0, MAX_INTERFACES)) : placesAt(chosen, interfaces);
}

function placesOf(interfaces: readonly LocalInterface[]): Places {
  return {
    ipv4: interfaces.flatMap((one) => one.ipv4.map(({ address }) => placeV4(one, address))),
    ipv6: interfaces.flatMap((one) => {
      // Everybody on the link can reach the link-local address, with any prefix.
      const source = one.ipv6.find(({ address }) => isLinkLocal(address)) ?? one.ipv6[0];
      return source === undefined ? [] : [placeV6(one, source.address)];
    }),
  };
}

/** Returns the place for a chosen address. It may be on loopback. */
function placesAt(chosen: string, interfaces: readonly LocalInterface[]): Places {
  const [address = '', zone] = chosen.split('%', 2);
  const loopback: LocalInterface = { name: 'lo', index: 1, ipv4: [], ipv6: [] };
  const has = (one: LocalInterface): boolean =>
    [...one.ipv4, ...one.ipv6].some((own) => own.address === address) && (zone === undefined || zone === one.name);
  const one = interfaces.find(has) ?? loopback;
  return isIPv6(address) ? { ipv4: [], ipv6: [placeV6(one, address)] } : { ipv4: [placeV4(one, address)], ipv6: [] };
}

function placeV4({ name, index }: LocalInterface, address: string): Place {
  return { key: `${name} ${index} ${address}`, source: address, via: address };
}

function placeV6({ name, index }: LocalInterface, address: string): Place {
  const source = isLinkLocal(address) ? `${address}%${name}` : address;
  return { key: `${name} ${index} ${address}`, source, via: `::%${name}` };
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab][0-9a-f]:/i.test(address);
}
