import { randomUUID } from 'node:crypto';
import { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { GROUP_PORT, GROUPS, parseAnnouncement, QUESTION } from '../../discovery/lan-announcement.ts';
import { LanGroup, type Place } from '../../discovery/lan-group.ts';
import type { LocalInterface } from '../../discovery/local-networks.ts';
import { placesIn } from '../../discovery/places.ts';
import { isIPv6 } from '../../ip-version.ts';

/** Time for our own packet to come back, and for neighbours to answer it. */
const ANSWERS_MS = 1_500;
const SEND_AGAIN_MS = 200;

/** The result of a multicast test on one interface. */
export interface MulticastEcho {
  readonly interface: string;
  readonly address: string;
  /** True if a packet to the group came back. If false, something drops it, such as a firewall. */
  readonly isHeard: boolean;
  /** Number of other hosts that announced themselves meanwhile. */
  readonly others: number;
  /** The system's reason why nothing could be sent. */
  readonly failure: string | undefined;
}

/**
 * Sends a packet to the neighbours' group on each interface, and waits for it and for other machines' answers: over IPv4, or
 * over IPv6 where there is no IPv4.
 */
export async function testMulticast(
  interfaces: readonly LocalInterface[],
  signal: AbortSignal,
): Promise<MulticastEcho[]> {
  return Promise.all(
    interfaces.flatMap((one) => {
      const { ipv4, ipv6 } = placesIn([one]);
      const [family, place] = ipv4[0] === undefined ? (['ipv6', ipv6[0]] as const) : (['ipv4', ipv4[0]] as const);
      return place === undefined ? [] : [testOne(one, family, place, signal)];
    }),
  );
}

async function testOne(
  local: LocalInterface,
  family: 'ipv4' | 'ipv6',
  place: Place,
  signal: AbortSignal,
): Promise<MulticastEcho> {
  const probe = Buffer.from(`${QUESTION}${randomUUID()}`);
  const own = new Set(Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map((one) => one.address)));
  const others = new Set<string>();
  let isHeard = false;
  let failure: string | undefined;
  await using group = new LanGroup({
    family,
    address: GROUPS[family],
    port: GROUP_PORT,
    onPacket: (packet, from) => {
      const host = from.replace(/%.*/, '');
      if (packet.equals(probe)) isHeard = true;
      else if (isOn(local, from) && !own.has(host) && parseAnnouncement(packet, host) !== undefined) others.add(host);
    },
    onWarning: (error) => (failure = error.message),
  });
  const end = AbortSignal.any([signal, AbortSignal.timeout(ANSWERS_MS)]);
  while (!end.aborted) {
    await group.follow([place]);
    group.send(probe);
    await sleep(SEND_AGAIN_MS, undefined, { signal: end }).catch(() => undefined);
  }
  signal.throwIfAborted();
  return {
    interface: local.name,
    address: place.source,
    isHeard,
    others: others.size,
    failure: group.isJoined ? undefined : failure,
  };
}

/** Returns true for an address on the network of an interface: a socket also gets the group's packets on other interfaces. */
function isOn({ name, ipv4, ipv6 }: LocalInterface, from: string): boolean {
  const [address = '', zone] = from.split('%', 2);
  if (zone !== undefined) return zone === name;
  const family = isIPv6(address) ? 'ipv6' : 'ipv4';
  const networks = new BlockList();
  for (const own of family === 'ipv6' ? ipv6 : ipv4) networks.addSubnet(own.address, own.prefixLength, family);
  return networks.check(address, family);
}
