/** SSDP, the discovery of UPnP: finds the description of a router. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Place } from './mapping.ts';

const GROUP = '239.255.255.250';
const PORT = 1900;
/** Version 2 answers questions for version 1, too, but not every router keeps to that. */
const TYPES = ['1', '2'].map((version) => `urn:schemas-upnp-org:device:InternetGatewayDevice:${version}`);
/** Packets may get lost, so the question is repeated. */
const PAUSES_MS = [500, 1_000, 2_000];
/** Routers answer in one packet of about 400 bytes. */
const MAX_PACKET_BYTES = 2_048;
/** A router may describe several devices, such as one of each version. */
const MAX_LOCATIONS = 4;

/**
 * Asks the network for routers. Only the gateway's own answer counts, and only if it leads to the gateway itself: any
 * other host could make us send requests wherever it likes.
 *
 * @returns addresses of descriptions; none if the gateway does not answer
 */
export async function findDescriptions({ gateway, own }: Place, signal: AbortSignal): Promise<readonly URL[]> {
  const found = new Map<string, URL>();
  const socket = createSocket('udp4');
  const answered = new AbortController();
  socket.on('error', () => undefined);
  socket.on('message', (message, { address }) => {
    if (address !== gateway || message.length > MAX_PACKET_BYTES || found.size >= MAX_LOCATIONS) return;
    const location = locationOf(message.toString('latin1'), gateway);
    if (location === undefined) return;
    found.set(location.href, location);
    answered.abort();
  });
  try {
    socket.bind({ address: own, port: 0, exclusive: true });
    await once(socket, 'listening', { signal });
    socket.setMulticastInterface(own);
    socket.setMulticastTTL(2);
    for (const pauseMs of PAUSES_MS) {
      // Some routers hear only the group. A firewall only lets in answers of a host that was asked itself.
      for (const host of [GROUP, gateway])
        for (const type of TYPES) socket.send(question(host, type), PORT, host, () => undefined);
      await sleep(pauseMs, undefined, { signal: AbortSignal.any([signal, answered.signal]) }).catch(() => undefined);
      if (found.size > 0) break;
      signal.throwIfAborted();
    }
    if (found.size > 0) await sleep(100, undefined, { signal }); // for the other answers
  } catch {
    // the network has gone, or nobody waits any more
  } finally {
    socket.close();
  }
  return [...found.values()];
}

function question(host: string, type: string): string {
  return `M-SEARCH * HTTP/1.1\r\nHOST: ${host}:${PORT}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ${type}\r\n\r\n`;
}

function locationOf(packet: string, gateway: string): URL | undefined {
  const [status = '', ...lines] = packet.split('\r\n');
  if (!/^HTTP\/1\.[01] 200\b/.test(status)) return undefined;
  const line = lines.find((one) => /^location:/i.test(one));
  return line === undefined ? undefined : urlAt(gateway, line.slice(line.indexOf(':') + 1).trim());
}

/** Returns the URL if it is one of this host: over HTTP, by its address, without a password. */
export function urlAt(host: string, text: string, base?: URL): URL | undefined {
  const url = URL.parse(text, base?.href);
  const isThere = url?.protocol === 'http:' && url.hostname === host && url.username === '' && url.password === '';
  return url !== null && isThere ? url : undefined;
}
