/** Writes and reads the packets of local service discovery (BEP 14). */
import type { InfoHash } from '../nix/brands.ts';
import { formatEndpoint, isPort, type Endpoint } from './endpoint.ts';

/** The multicast groups of BEP 14, and their UDP port. */
export const GROUPS = { ipv4: '239.192.152.143', ipv6: 'ff15::efc0:988f' } as const;
export const GROUP_PORT = 6771;

/** Begins a question to all neighbours, which announce themselves in answer. `narswarm doctor` sends it. */
export const QUESTION = 'narswarm doctor ';

const MAX_PACKET_BYTES = 1400;
const INFOHASH_LINE_BYTES = 'Infohash: '.length + 40 + '\r\n'.length;

/** A neighbour's packet. */
export interface LanAnnouncement {
  readonly peer: Endpoint;
  /** Text by which the sender recognises its own packets. Empty if it sends none. */
  readonly cookie: string;
  /** Lower-case hex, 40 characters each. */
  readonly infoHashes: readonly string[];
}

/** Returns the packets that announce these infohashes, each of at most 1400 bytes (BEP 14). None without infohashes. */
export function formatAnnouncements(
  peerPort: number,
  cookie: string,
  infoHashes: readonly InfoHash[],
  group: Endpoint = { host: GROUPS.ipv4, port: GROUP_PORT },
): Buffer[] {
  const head = `BT-SEARCH * HTTP/1.1\r\nHost: ${formatEndpoint(group)}\r\nPort: ${peerPort}\r\n`;
  const tail = `cookie: ${cookie}\r\n\r\n\r\n`;
  const lines = infoHashes.map((infoHash) => `Infohash: ${infoHash}\r\n`);
  const perPacket = Math.floor((MAX_PACKET_BYTES - head.length - tail.length) / INFOHASH_LINE_BYTES);
  const packets: Buffer[] = [];
  for (let index = 0; index < lines.length; index += perPacket) {
    packets.push(Buffer.from(head + lines.slice(index, index + perPacket).join('') + tail));
  }
  return packets;
}

/**
 * Reads an announcement that came from `address`. Returns undefined for anything malformed. Ignores unknown headers, as
 * BEP 14 asks. Never throws.
 */
export function parseAnnouncement(packet: Uint8Array, address: string): LanAnnouncement | undefined {
  const [request, ...headers] = Buffer.from(packet).toString('latin1').split('\r\n');
  if (request !== 'BT-SEARCH * HTTP/1.1') return undefined;
  let port = Number.NaN;
  let cookie = '';
  const infoHashes: string[] = [];
  for (const header of headers) {
    const colon = header.indexOf(':');
    const key = header.slice(0, Math.max(colon, 0)).toLowerCase();
    const value = header.slice(colon + 1).trim();
    if (key === 'port' && /^\d{1,5}$/.test(value)) port = Number(value);
    if (key === 'cookie') cookie = value;
    if (key === 'infohash' && /^[0-9a-f]{40}$/i.test(value)) infoHashes.push(value.toLowerCase());
  }
  return isPort(port) && infoHashes.length > 0 ? { peer: { host: address, port }, cookie, infoHashes } : undefined;
}
