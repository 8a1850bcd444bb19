import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { hostKeyOf } from './address-range.ts';

/** Limits on a server's connections. */
export interface ConnectionLimitsOptions {
  readonly total: number;
  /** Connections of the host at this address. */
  readonly perHost: (host: string) => number;
}

type Counted = Pick<Socket, 'remoteAddress' | 'once' | 'destroy'>;

/**
 * Shares a server's connections among hosts. If all are in use, a host with fewer connections replaces the oldest one
 * of the host with the most. So a host that opens thousands shuts out only itself.
 */
export class ConnectionLimits {
  readonly #options: ConnectionLimitsOptions;
  /** Oldest first. */
  readonly #hosts = new Map<string, Set<Counted>>();
  #open = 0;

  constructor(options: ConnectionLimitsOptions) {
    this.#options = options;
  }

  /** Returns true if this connection may continue. It counts until it is closed. */
  admit(socket: Counted): boolean {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) return false; // it has already ended
    const key = hostKeyOf(remoteAddress);
    const own = this.#hosts.get(key) ?? new Set();
    if (own.size >= this.#options.perHost(remoteAddress)) return false;
    if (this.#open >= this.#options.total && !this.#makeRoom(own.size)) return false;
    own.add(socket);
    this.#open++;
    this.#hosts.set(key, own);
    socket.once('close', () => this.#forget(key, socket));
    return true;
  }

  /** Closes a connection of the host with the most, if it has more than one and more than `own`. */
  #makeRoom(own: number): boolean {
    let [largest, sockets]: [string, Set<Counted>] = ['', new Set()];
    for (const [key, candidates] of this.#hosts)
      if (candidates.size > sockets.size) [largest, sockets] = [key, candidates];
    const [oldest] = sockets;
    if (oldest === undefined || sockets.size <= own + 1) return false;
    this.#forget(largest, oldest);
    oldest.destroy();
    return true;
  }

  #forget(key: string, socket: Counted): void {
    const sockets = this.#hosts.get(key);
    if (sockets?.delete(socket) !== true) return;
    this.#open--;
    if (sockets.size === 0) this.#hosts.delete(key);
  }
}

/** Returns `wanted` connections, or half of the files that this process may open if that is less. */
export function connectionsWithin(wanted: number): number {
  let limit = Infinity;
  try {
    limit = Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? Infinity);
  } catch {
    // no /proc: the system closes connections beyond its limit
  }
  return Math.max(1, Math.min(wanted, Math.floor(limit / 2)));
}
