/**
 * The ports that narswarm takes where nobody names one, so that a firewall can be opened for them: none is assigned by
 * IANA (16163 to 16308 are free), none is a port that Linux gives to outgoing connections (32768 to 60999). 6277 is NARS
 * on the keys of a telephone. nix/ports.json has them, for the NixOS module too:
 *
 * - `peers` and `dht`: peers of a daemon (TCP) and its DHT node (UDP).
 * - `beside`: peers of whatever runs beside a daemon: a fetch, an update, the daemon of another user (TCP). A fetch never
 *   takes the daemon's own port, since the daemon may start at any moment.
 * - `http`: the hash map of a publisher (TCP).
 * - `discovery`: multicast on the local network (UDP, BEP 14); `mdns`: caches that announce themselves there (UDP).
 */
import numbers from '../../nix/ports.json' with { type: 'json' };
import { systemCode } from '../disk/store-error.ts';

/** Any port that is free. */
const ANY = 0;

const { from, to } = numbers.beside;
const BESIDE: readonly number[] = Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** UDP ports of the multicast groups that are listened to on the local network. */
export const GROUP_PORTS: { readonly discovery: number; readonly mdns: number } = numbers;

/** Where to listen if nobody names a port: at the first of these that is free; 0 is any. */
export interface DefaultPorts {
  /** TCP, for peers. */
  readonly peers: readonly number[];
  /** UDP, for the DHT. */
  readonly dht: readonly number[];
}

/** Ports of what runs for long: `daemon` and `publish`. */
export const SERVICE_PORTS: DefaultPorts & { readonly http: readonly number[] } = {
  peers: [numbers.peers, ...BESIDE, ANY],
  dht: [numbers.dht, ANY],
  http: [numbers.http, ANY],
};

/** Ports of what runs once. Its DHT node only asks, which needs no open port. */
export const RUN_PORTS: DefaultPorts = { peers: [...BESIDE, ANY], dht: [ANY] };

/** The ports that are taken where none is named, for help. */
export function defaultPortInWords(ports: readonly number[]): string {
  const [first, second] = ports;
  const named = ports.filter((port) => port !== 0);
  if (first === undefined || first === 0) return 'any that is free';
  if (second === 0 || second === undefined) return `${first}, or any if that is in use`;
  return `the first of ${first} to ${named.at(-1)} that is free`;
}

/**
 * Listens at the first of several ports that is free.
 *
 * @throws the error of `listen` for the last port, or the first that is not about a port in use
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

/** True for the error of a port that another process has. */
export function isInUse(error: unknown): boolean {
  return systemCode(error) === 'EADDRINUSE' || (error instanceof Error && systemCode(error.cause) === 'EADDRINUSE');
}
