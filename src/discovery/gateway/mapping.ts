/** Ports that the network's router maps to this machine, as facts. */

/** A port of this machine that others should reach. */
export interface WantedPort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}

/** A port of the router that leads to this machine. */
export interface MappedPort {
  readonly protocol: 'tcp' | 'udp';
  readonly internalPort: number;
  readonly externalPort: number;
  /** Time at which the router forgets it unless it is renewed, ISO 8601. Null if it never does. */
  readonly until: string | null;
}

/**
 * The reason why no port is mapped, or why a mapping is of no use:
 * - `scope`: nothing is offered beyond the local network.
 * - `no-gateway`: there is no IPv4 default route.
 * - `listen`: the process listens on an address from which the router cannot be reached.
 * - `public-address`: this machine has an address of the internet, so no router translates it.
 * - `no-answer`: the router speaks neither NAT-PMP nor UPnP, or both are off.
 * - `refused`: the router answered with an error.
 * - `offline`: the router has no address on its other side.
 * - `nested-nat`: the ports are mapped, but the router's own address is a private one: there is another NAT behind it.
 */
export const MAPPING_FAILURES = [
  'scope',
  'no-gateway',
  'listen',
  'public-address',
  'no-answer',
  'refused',
  'offline',
  'nested-nat',
] as const;
export type MappingFailure = (typeof MAPPING_FAILURES)[number];

export const GATEWAY_PROTOCOLS = ['nat-pmp', 'upnp'] as const;
export type GatewayProtocol = (typeof GATEWAY_PROTOCOLS)[number];

/** The state of the mapping. While the router is asked for the first time, there are neither ports nor a failure. */
export interface PortMapping {
  /** IPv4 address of the router. Null if there is none. */
  readonly gateway: string | null;
  /** The protocol that the router answered to. */
  readonly protocol: GatewayProtocol | null;
  /** The router's address on the other side. */
  readonly externalAddress: string | null;
  readonly ports: readonly MappedPort[];
  readonly failure: MappingFailure | null;
  /** The router's error number, if it refused. */
  readonly refusal: number | null;
}

/** The state of a mapping that cannot be made. */
export function unmapped(failure: MappingFailure | null, gateway: string | null = null): PortMapping {
  return { gateway, protocol: null, externalAddress: null, ports: [], failure, refusal: null };
}

/** A router, and this machine's address towards it. */
export interface Place {
  readonly gateway: string;
  readonly own: string;
}

/** An answer to a request for a mapping. */
export type MapAnswer =
  | { readonly kind: 'mapped'; readonly externalPort: number; readonly leaseSeconds: number | undefined }
  | { readonly kind: 'refused'; readonly code: number }
  | { readonly kind: 'silent' };

/** A router that has answered. */
export interface Gateway {
  readonly protocol: GatewayProtocol;
  /** Undefined if the router has none, or did not say. */
  readonly externalAddress: string | undefined;
  /**
   * Maps a port, or renews its mapping.
   *
   * @param externalPort the port that is preferred; the router may choose another one
   */
  map(wanted: WantedPort, externalPort: number, signal: AbortSignal): Promise<MapAnswer>;
  /** Removes a mapping. Does not fail if the router is silent. */
  unmap(mapped: Pick<MappedPort, 'protocol' | 'internalPort' | 'externalPort'>, signal: AbortSignal): Promise<void>;
}

/** The lease that routers are asked for. A machine that dies leaves its mappings for at most this time. */
export const LEASE_SECONDS = 3_600;
