import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { GROUP_PORT, GROUPS } from '../../discovery/lan-announcement.ts';
import { LanGroup, type Place } from '../../discovery/lan-group.ts';
import type { LocalInterface } from '../../discovery/local-networks.ts';
import { placesIn } from '../../discovery/places.ts';

/** Time for our own packet to come back. */
const ECHO_MS = 1_000;
const SEND_AGAIN_MS = 200;

/** The result of a multicast test on one interface. */
export interface MulticastEcho {
  readonly interface: string;
  readonly address: string;
  /** True if a packet to the group came back. If false, something drops it, such as a firewall. */
  readonly isHeard: boolean;
  /** The system's reason why nothing could be sent. */
  readonly failure: string | undefined;
}

/**
 * Sends a packet to the neighbours' group on each interface, and waits for it: over IPv4, or over IPv6 where there is no
 * IPv4. Other machines ignore it.
 */
export async function testMulticast(
  interfaces: readonly LocalInterface[],
  signal: AbortSignal,
): Promise<MulticastEcho[]> {
  return Promise.all(
    interfaces.flatMap((one) => {
      const { ipv4, ipv6 } = placesIn([one]);
      const [family, place] = ipv4[0] === undefined ? (['ipv6', ipv6[0]] as const) : (['ipv4', ipv4[0]] as const);
      return place === undefined ? [] : [testOne(one.name, family, place, signal)];
    }),
  );
}

async function testOne(
  name: string,
  family: 'ipv4' | 'ipv6',
  place: Place,
  signal: AbortSignal,
): Promise<MulticastEcho> {
  const probe = Buffer.from(`narswarm doctor ${randomUUID()}`);
  const heard = new AbortController();
  let failure: string | undefined;
  await using group = new LanGroup({
    family,
    address: GROUPS[family],
    port: GROUP_PORT,
    onPacket: (packet) => {
      if (packet.equals(probe)) heard.abort();
    },
    onWarning: (error) => (failure = error.message),
  });
  const end = AbortSignal.any([signal, heard.signal, AbortSignal.timeout(ECHO_MS)]);
  while (!end.aborted) {
    await group.follow([place]);
    group.send(probe);
    await sleep(SEND_AGAIN_MS, undefined, { signal: end }).catch(() => undefined);
  }
  signal.throwIfAborted();
  return {
    interface: name,
    address: place.source,
    isHeard: heard.signal.aborted,
    failure: group.isJoined ? undefined : failure,
  };
}
