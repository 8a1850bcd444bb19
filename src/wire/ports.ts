/**
 * The ports that narswarm uses by default, so that a firewall can be opened for them. None is assigned by IANA (16163
 * to 16308 are free), and Linux gives none to outgoing connections (32768 to 60999). 6277 spells NARS on the keys of a
 * telephone. They are in nix/ports.json, for the NixOS module, too:
 *
 * - `peers` and `dht`: peers of a daemon (TCP) and its DHT node (UDP).
 * - `beside`: peers of processes that run beside a daemon: a fetch, an update, the daemon of another user (TCP). A
 *   fetch never uses the daemon's own port, since the daemon may start at any moment.
 * - `http`: the hash map of a publisher (TCP).
 * - `substituter`: the binary cache of a daemon, for Nix (TCP, loopback).
 * - `discovery`: multicast on the local network (UDP, BEP 14); `mdns`: caches that announce themselves there (UDP).
 */
import numbers from '../../nix/ports.json' with { type: 'json' };
import { systemCode } from '../disk/store-error.ts';

/** Any free port. */
const ANY = 0;

const { from, to } = numbers.beside;
const BESIDE: readonly number[] = Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** UDP ports of the multicast groups on the local network. */
export const GROUP_PORTS: { readonly discovery: number; readonly mdns: number } = numbers;

/** Default ports to listen on. The first free one is used; 0 is any. */
export interface DefaultPorts {
  /** TCP, for peers. */
  readonly peers: readonly number[];
  /** UDP, for the DHT. */
  readonly dht: readonly number[];
}

/** Ports of long-running commands: `daemon` and `publish`. */
export const SERVICE_PORTS: DefaultPorts & { readonly http: readonly number[] } = {
  peers: [numbers.peers, ...BESIDE, ANY],
  dht: [numbers.dht, ANY],
  http: [numbers.http, ANY],
};

/** TCP port of a daemon's substituter. It has no alternative, since nix.conf names it. */
export const SUBSTITUTER_PORT: number = numbers.substituter;

/** Ports of other commands. Their DHT node only asks, which needs no open port. */
export const RUN_PORTS: DefaultPorts = { peers: [...BESIDE, ANY], dht: [ANY] };

/** Describes default ports for help. */
export function defaultPortInWords(ports: readonly number[]): string {
  const [first, second] = ports;
  const named = ports.filter((port) => port !== 0);
  if (first === undefined || first === 0) return 'any that is free';
  if (second === 0 || second === undefined) return `${first}, or any if that is in use`;
  return `the first of ${first} to ${named.at(-1)} that is free`;
}

/**
 * Listens on the first free one of several ports.
 *
 * @throws the error of `listen` for the last port, or the first error that does not mean a port in use
 */
export async function listenAtFirst<T>(ports: readonly number[], listen: (port: number) => Promise<T>): Promise<T> {
  for (const port of ports.slice(0, -1)) {
    try {
      return await listen(port);
    } catch (error) {
      if (!isInUse(error)) throw error;
    }
  }
  return listen(ports.at(-1) ?? ANY);
}

/** Returns true for the error of a port that another process uses. */
export function isInUse(error: unknown): boolean {
  return systemCode(error) === 'EADDRINUSE' || (error instanceof Error && systemCode(error.cause) === 'EADDRINUSE');
}
