/**
 * Finds peers on the local network: local service discovery (BEP 14), over IPv4 multicast.
 *
 * Written here because the npm package bittorrent-lsd can neither choose its interface nor answer, and does not filter
 * by infohash. Packets keep the default TTL of 1, so they do not leave the link. Discovery is an extra: what goes wrong with a network is a warning, never an exception.
 */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import type { InfoHash } from '../nix/brands.ts';
import type { Endpoint } from './endpoint.ts';
import { formatAnnouncements, GROUP, GROUP_PORT, parseAnnouncement } from './lan-announcement.ts';

export interface LanDiscoveryOptions {
  /** The TCP port where peers reach us. */
  readonly peerPort: number;
  /** The swarms we are in; asked at every packet sent or received. */
  readonly infoHashes: () => readonly InfoHash[];
  /** Called for each of our infohashes that a neighbour announces, each time it does. */
  readonly onPeer: (peer: Endpoint, infoHash: InfoHash) => void;
  /** Called when an interface or the port cannot be used; discovery goes on without. Default: nothing. */
  readonly onWarning?: (error: Error) => void;
  /** IPv4 address of the one interface to use. Default: all but loopback, also those that come up later. */
  readonly interfaceAddress?: string;
  /** UDP port of the group. Default: 6771. */
  readonly groupPort?: number;
  /** Time between announcements. Default: 300,000 (5 minutes, as BEP 14 has it). */
  readonly intervalMs?: number;
  /** False: listens and never sends. Default: true. */
  readonly announces?: boolean;
}

const INTERVAL_MS = 5 * 60_000;
/** BEP 14 asks for one a minute; a newcomer would wait that long for an answer. */
const MIN_GAP_MS = 1000;
/** Answers of many hosts to one newcomer spread over this time. */
const MAX_ANSWER_DELAY_MS = 500;
/** Bounds what a noisy neighbour can make us remember. */
const MAX_KNOWN = 4096;

/** Announces our swarms on the local network and reports who else is in them. */
export class LanDiscovery implements AsyncDisposable {
  readonly #options: LanDiscoveryOptions;
  readonly #cookie = `narswarm-${randomBytes(8).toString('hex')}`;
  /** Receives for all interfaces; undefined where the port could not be had. */
  #receiver: Socket | undefined;
  /** One a interface, by address: a socket sends multicast to one interface only. */
  readonly #senders = new Map<string, Socket>();
  readonly #known = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  /** When `#timer` fires, and when the last announcement was: milliseconds of `performance.now()`. */
  #dueAt = Infinity;
  #lastAt = -Infinity;
  #isClosed = false;

  private constructor(options: LanDiscoveryOptions) {
    this.#options = options;
  }

  /** Joins the group and announces at once. Never rejects: what fails goes to `onWarning`. */
  static async start(options: LanDiscoveryOptions): Promise<LanDiscovery> {
    const discovery = new LanDiscovery(options);
    discovery.#receiver = await discovery.#open('0.0.0.0', options.groupPort ?? GROUP_PORT);
    discovery.#receiver?.on('message', (packet, from) => discovery.#receive(packet, from.address));
    await discovery.#announceNow();
    return discovery;
  }

  /** Announces now, or a second after the announcement before. Nothing happens once closed. */
  announce(): void {
    this.#announceIn(0);
  }

  /** Leaves the group and frees the ports. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    const sockets = [...this.#senders.values(), ...(this.#receiver ? [this.#receiver] : [])];
    this.#senders.clear();
    this.#receiver = undefined;
    await Promise.all(sockets.map(closeSocket));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #receive(packet: Buffer, address: string): void {
    const announcement = parseAnnouncement(packet, address);
    if (announcement === undefined || announcement.cookie === this.#cookie) return;
    const { peer, cookie, infoHashes } = announcement;
    const shared = this.#options.infoHashes().filter((infoHash) => infoHashes.includes(infoHash));
    if (shared.length === 0) return;
    // A restarted neighbour has a new cookie and has forgotten us.
    const id = `${peer.host}:${peer.port} ${cookie}`;
    if (!this.#known.has(id)) {
      if (this.#known.size === MAX_KNOWN) this.#known.clear();
      this.#known.add(id);
      this.#announceIn(Math.random() * MAX_ANSWER_DELAY_MS);
    }
    for (const infoHash of shared) this.#options.onPeer(peer, infoHash);
  }

  #announceIn(delayMs: number): void {
    const now = performance.now();
    const dueAt = Math.max(now + delayMs, this.#lastAt + MIN_GAP_MS);
    if (this.#isClosed || dueAt >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = dueAt;
    this.#timer = setTimeout(() => void this.#announceNow(), dueAt - now);
  }

  async #announceNow(): Promise<void> {
    this.#lastAt = performance.now();
    this.#dueAt = Infinity;
    await this.#followInterfaces();
    if (this.#options.announces ?? true) this.#send();
    this.#announceIn(this.#options.intervalMs ?? INTERVAL_MS);
  }

  #send(): void {
    const { groupPort = GROUP_PORT, peerPort, infoHashes } = this.#options;
    for (const packet of formatAnnouncements(peerPort, this.#cookie, infoHashes(), groupPort)) {
      for (const socket of this.#senders.values()) {
        socket.send(packet, groupPort, GROUP, (error) => error && this.#warn(error));
      }
    }
  }

  /** Interfaces come and go: a service starts before the network is up, a laptop moves. */
  async #followInterfaces(): Promise<void> {
    const { interfaceAddress } = this.#options;
    const addresses = interfaceAddress === undefined ? externalAddresses() : [interfaceAddress];
    const gone = [...this.#senders].filter(([address]) => !addresses.includes(address));
    for (const [address] of gone) this.#senders.delete(address);
    await Promise.all(gone.map(([, socket]) => closeSocket(socket)));
    const added = addresses.filter((address) => !this.#senders.has(address));
    await Promise.all(added.map((address) => this.#join(address)));
  }

  async #join(address: string): Promise<void> {
    const sender = await this.#open(address, 0);
    if (sender === undefined) return;
    try {
      sender.setMulticastInterface(address);
      sender.setMulticastLoopback(true);
    } catch (error) {
      this.#warn(error);
      return closeSocket(sender);
    }
    if (this.#isClosed) return closeSocket(sender);
    this.#senders.set(address, sender);
    try {
      this.#receiver?.addMembership(GROUP, address);
    } catch (error) {
      // An interface with two addresses is joined once, and stays so when an address comes back.
      if (!isErrno(error, 'EADDRINUSE')) this.#warn(error);
    }
  }

  async #open(address: string, port: number): Promise<Socket | undefined> {
    // Other clients on this host listen on the group's port too.
    const socket = createSocket({ type: 'udp4', reuseAddr: port !== 0 });
    try {
      socket.bind(port, address);
      await once(socket, 'listening');
      socket.on('error', (error) => this.#warn(error));
      return socket;
    } catch (error) {
      this.#warn(error);
      await closeSocket(socket);
      return undefined;
    }
  }

  #warn(error: unknown): void {
    this.#options.onWarning?.(error instanceof Error ? error : new Error(String(error)));
  }
}

function externalAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all.filter(({ family, internal }) => family === 'IPv4' && !internal).map(({ address }) => address);
}

/** Resolves once the port is free, also where the socket was never bound. */
async function closeSocket(socket: Socket): Promise<void> {
  const closed = once(socket, 'close');
  socket.close();
  await closed;
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
