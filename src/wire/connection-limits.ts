import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { hostKeyOf } from './address-range.ts';

/** Limits on a server's connections. */
export interface ConnectionLimitsOptions {
  readonly total: number;
  /** Connections of the host at this address. */
  readonly perHost: (host: string) => number;
  /** Returns true for a connection that is in use: it is not closed for another one. Default: none is. */
  readonly isBusy?: (socket: object) => boolean;
}

type Counted = Pick<Socket, 'remoteAddress' | 'once' | 'destroy'>;

/**
 * Shares a server's connections among hosts. If all are taken, a host with fewer connections replaces the oldest
 * idle one of the host with the most. So a host that opens thousands shuts out only itself.
 */
export class ConnectionLimits {
  readonly #options: ConnectionLimitsOptions;
  readonly #isBusy: (socket: object) => boolean;
  /** Oldest first. */
  readonly #hosts = new Map<string, Set<Counted>>();
  #open = 0;

  constructor(options: ConnectionLimitsOptions) {
    this.#options = options;
    this.#isBusy = options.isBusy ?? (() => false);
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

  /** Closes a connection of the host with the most that has one to close, if it has at least two more than `own`. */
  #makeRoom(own: number): boolean {
    const byCount = [...this.#hosts].toSorted(([, a], [, b]) => b.size - a.size);
    for (const [key, sockets] of byCount) {
      if (sockets.size <= own + 1) return false;
      const oldest = [...sockets].find((socket) => !this.#isBusy(socket));
      if (oldest === undefined) continue;
      this.#forget(key, oldest);
      oldest.destroy();
      return true;
    }
    return false;
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
