import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { ipVersion } from '../ip-version.ts';

/** A place to send from: an address of one interface. */
export interface Place {
  /** Key of the place. It differs if the interface was made again, even with the same address. */
  readonly key: string;
  /** Address to send from, with the zone of a link-local IPv6 address. */
  readonly source: string;
  /** The interface as the system names it: its address for IPv4, `::%eth0` for IPv6. */
  readonly via: string;
}

export interface LanGroupOptions {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly port: number;
  /** Port to send from. Answers to it are received, too. Default: a free one, without a listener. */
  readonly sendPort?: number;
  /** Time to live of packets. Default: 1, so that no router forwards them. */
  readonly ttl?: number;
  /** Called with each packet, at least once, and with its sender's address. */
  readonly onPacket: (packet: Buffer, from: string) => void;
  readonly onWarning: (error: Error) => void;
}

/** Time until a failed place is tried again; doubled after each further failure. */
const RETRY_MS = 1_500;
const MAX_RETRY_MS = 5 * 60_000;

/** Failures of a place: how many in a row, and when to try it again (`performance.now`). */
interface Failure {
  readonly count: number;
  readonly retryAtMs: number;
}

/** A multicast group on the interfaces of this machine. Sends from each place, and receives on all of them. */
export class LanGroup implements AsyncDisposable {
  readonly #options: LanGroupOptions;
  /** One socket per place, since a socket sends multicast to one interface only. */
  readonly #senders = new Map<string, Socket>();
  readonly #places = new Map<string, Place>();
  readonly #failures = new Map<string, Failure>();
  /**
   * Sockets that receive. The system allows 20 memberships per socket (net.ipv4.igmp_max_memberships), so more sockets
   * are made if necessary.
   */
  #receivers: Socket[] = [];
  #isClosed = false;

  constructor(options: LanGroupOptions) {
    this.#options = options;
  }

  /** True if packets can be sent or received. */
  get isJoined(): boolean {
    return this.#senders.size > 0;
  }

  /**
   * Joins new places and leaves missing ones. Warns only of second failures: the addresses of an interface that is
   * coming up cannot be used at first.
   *
   * @returns true if a place was joined
   */
  async follow(places: readonly Place[]): Promise<boolean> {
    const keys = new Set(places.map(({ key }) => key));
    for (const key of this.#failures.keys()) if (!keys.has(key)) this.#failures.delete(key);
    const gone = [...this.#places.keys()].filter((key) => !keys.has(key));
    for (const key of gone) this.#leave(key);
    // Memberships of deleted interfaces stay with the socket, count, and cannot be given back.
    if (gone.length > 0) await this.#renewReceivers();
    let hasJoined = false;
    for (const place of places) {
      const isDue = performance.now() >= (this.#failures.get(place.key)?.retryAtMs ?? 0);
      if (this.#isClosed || this.#senders.has(place.key) || !isDue) continue;
      try {
        await this.#join(place);
        hasJoined = true;
      } catch (error) {
        this.#fail(place.key, error);
      }
    }
    return hasJoined;
  }

  /** Sends a packet from every place. A place that cannot send is joined again later. */
  send(packet: Buffer): void {
    const { address, port } = this.#options;
    for (const [key, sender] of this.#senders) {
      sender.send(packet, port, address, (error) => {
        if (!error) {
          this.#failures.delete(key);
        } else if (this.#senders.get(key) === sender) {
          this.#leave(key);
          this.#fail(key, error);
        }
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const sockets = [...this.#senders.values(), ...this.#receivers];
    this.#senders.clear();
    this.#places.clear();
    this.#receivers = [];
    await Promise.all(sockets.map(closeSocket));
  }

  async #join(place: Place): Promise<void> {
    await using stack = new AsyncDisposableStack();
    const { sendPort = 0, ttl = 1, onPacket } = this.#options;
    const sender = stack.adopt(await this.#open(place.source, sendPort), closeSocket);
    sender.setMulticastInterface(place.via);
    sender.setMulticastTTL(ttl);
    if (sendPort !== 0) sender.on('message', (packet, from) => onPacket(packet, from.address));
    sender.setMulticastLoopback(true);
    await this.#listen(place);
    if (this.#isClosed) return;
    stack.move();
    this.#senders.set(place.key, sender);
    this.#places.set(place.key, place);
  }

  #leave(key: string): void {
    this.#senders.get(key)?.close();
    this.#senders.delete(key);
    this.#places.delete(key);
  }

  /** Receives at a place, too. @throws if that is impossible */
  async #listen({ via }: Place): Promise<void> {
    const { address, port } = this.#options;
    const last = this.#receivers.at(-1);
    if (last !== undefined && hasRoomFor(last, address, via)) return;
    await using stack = new AsyncDisposableStack();
    const receiver = stack.adopt(
      await this.#open(this.#options.family === 'ipv4' ? '0.0.0.0' : '::', port),
      closeSocket,
    );
    if (this.#isClosed) return;
    receiver.addMembership(address, via);
    stack.move();
    receiver.on('message', (packet, from) => this.#options.onPacket(packet, from.address));
    this.#receivers.push(receiver);
  }

  /** Receives at the remaining places over new sockets. Closes the old ones afterwards, so that no packet is missed. */
  async #renewReceivers(): Promise<void> {
    const old = this.#receivers;
    this.#receivers = [];
    for (const place of this.#places.values()) {
      try {
        await this.#listen(place);
      } catch (error) {
        this.#leave(place.key);
        this.#fail(place.key, error);
      }
    }
    await Promise.all(old.map(closeSocket));
  }

  /** @throws the system's error */
  async #open(address: string, port: number): Promise<Socket> {
    const isIPv4 = this.#options.family === 'ipv4';
    // Other clients on this host listen on the group's port, too.
    const socket = createSocket({
      type: isIPv4 ? 'udp4' : 'udp6',
      reuseAddr: port !== 0,
      ipv6Only: !isIPv4,
      lookup: unchanged,
    });
    try {
      socket.bind(port, address);
      await once(socket, 'listening');
    } catch (error) {
      await closeSocket(socket);
      throw error;
    }
    socket.on('error', (error) => this.#options.onWarning(error));
    return socket;
  }

  #fail(key: string, error: unknown): void {
    if (this.#isClosed) return;
    const count = (this.#failures.get(key)?.count ?? 0) + 1;
    const waitMs = Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** (count - 1));
    this.#failures.set(key, { count, retryAtMs: performance.now() + waitMs });
    if (count === 2) this.#options.onWarning(error instanceof Error ? error : new Error(String(error)));
  }
}

/** Stands in for a look-up of names, which compiles Node's regular expression for IPv6: there are only addresses here. */
function unchanged(address: string, ...args: unknown[]): void {
  const callback = args.at(-1) as (error: null, address: string, family: number) => void;
  process.nextTick(callback, null, address, ipVersion(address));
}

/** Joins unless the socket has as many memberships as the system allows. @throws if the interface cannot be joined */
function hasRoomFor(socket: Socket, address: string, via: string): boolean {
  try {
    socket.addMembership(address, via);
    return true;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EADDRINUSE') return true; // an interface with two addresses is joined once
    if (code === 'ENOBUFS' || code === 'ENOMEM') return false;
    throw error;
  }
}

/** Closes a socket. Resolves once the port is free, even if the socket was never bound. */
async function closeSocket(socket: Socket): Promise<void> {
  const closed = once(socket, 'close');
  socket.close();
  await closed;
}
