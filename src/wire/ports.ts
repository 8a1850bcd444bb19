/**
 * The ports that narswarm takes where nobody names one, so that a firewall can be opened for them: none is assigned by
 * IANA (16163 to 16308 are free), none is a port that Linux gives to outgoing connections (32768 to 60999).
 */
import { systemCode } from '../disk/store-error.ts';

/** NARS on the keys of a telephone, with a 1 before it: peers of a daemon (TCP) and its DHT node (UDP). */
const PEER_PORT = 16_277;
/** The hash map of a publisher over HTTP (TCP). */
const HTTP_PORT = 16_276;
/**
 * Peers of whatever runs beside a daemon: a fetch, an update, the daemon of another user (TCP). A fetch never takes the
 * daemon's own port, which may start at any moment.
 */
const FURTHER_PORTS = [16_278, 16_279, 16_280, 16_281, 16_282, 16_283, 16_284] as const;
/** Any port that is free. */
const ANY = 0;

/** Where to listen if nobody names a port: at the first of these that is free; 0 is any. */
export interface DefaultPorts {
  /** TCP, for peers. */
  readonly peers: readonly number[];
  /** UDP, for the DHT. */
  readonly dht: readonly number[];
}

/** Ports of what runs for long: `daemon` and `publish`. */
export const SERVICE_PORTS: DefaultPorts & { readonly http: readonly number[] } = {
  peers: [PEER_PORT, ...FURTHER_PORTS, ANY],
  dht: [PEER_PORT, ANY],
  http: [HTTP_PORT, ANY],
};

/** Ports of what runs once. Its DHT node only asks, which needs no open port. */
export const RUN_PORTS: DefaultPorts = { peers: [...FURTHER_PORTS, ANY], dht: [ANY] };

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
