import { setTimeout as sleep } from 'node:timers/promises';
import {
  unmapped,
  type Gateway,
  type MapAnswer,
  type MappedPort,
  type MappingFailure,
  type Place,
  type PortMapping,
  type WantedPort,
} from './mapping.ts';
import { openNatPmp } from './nat-pmp.ts';
import { findPlace, isPrivate } from './place.ts';
import { openUpnp } from './upnp.ts';

export interface PortMapperOptions {
  /** Returns the ports to map. Asked every few seconds: a DHT node is opened when it is needed. */
  readonly wanted: () => readonly WantedPort[];
  /** The value of `--listen`. */
  readonly listen?: string | undefined;
  /** Called with each state that differs from the one before by more than its times. */
  readonly onChange?: (mapping: PortMapping) => void;
  /** Finds the router. Replaced in tests. */
  readonly place?: () => Promise<Place | MappingFailure>;
  readonly times?: Partial<MapperTimes>;
}

/** Milliseconds. */
export interface MapperTimes {
  /** Interval of looks at the routing table. Another router, or another own address, is asked at once. */
  readonly lookMs: number;
  /** Interval of renewals. A router that was started again has forgotten its mappings. */
  readonly renewMs: number;
  /** Shortest interval, however short a router's lease is. */
  readonly leastMs: number;
  /** Pause after a failure; doubled after each further one, up to ten times as long. */
  readonly retryMs: number;
  /** Limit for asking a router once. */
  readonly roundMs: number;
  /** Limit for removing the mappings at the end. */
  readonly removeMs: number;
}

const TIMES: MapperTimes = {
  lookMs: 10_000,
  renewMs: 5 * 60_000,
  leastMs: 60_000,
  retryMs: 60_000,
  roundMs: 60_000,
  removeMs: 2_000,
};

/** Protocols, in the order in which they are tried: NAT-PMP takes one packet where UPnP takes five requests. */
const OPENERS = { 'nat-pmp': openNatPmp, upnp: openUpnp } as const;

/**
 * Has the network's router map ports to this machine, and keeps them mapped. Removes the mappings when it is closed.
 * Never throws: a router that does not answer is a state.
 */
export class PortMapper implements AsyncDisposable {
  readonly #options: PortMapperOptions;
  readonly #times: MapperTimes;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #mapping = unmapped(null);
  /** Mappings that were asked for, and the router that was asked. They are removed at the end. */
  #asked = new Map<string, { readonly gateway: Gateway; readonly port: Asked }>();

  constructor(options: PortMapperOptions) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
    this.#running = this.#run();
  }

  /** The present state. */
  get mapping(): PortMapping {
    return this.#mapping;
  }

  /** Removes the mappings, as far as the router answers in time. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    const signal = AbortSignal.timeout(this.#times.removeMs);
    await Promise.all([...this.#asked.values()].map(({ gateway, port }) => gateway.unmap(port, signal)));
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let state = '';
    let dueAtMs = 0;
    let failures = 0;
    while (!signal.aborted) {
      const place = await (this.#options.place ?? (() => findPlace(this.#options.listen)))();
      const wanted = this.#options.wanted();
      const now = JSON.stringify([place, wanted]);
      if (now !== state || Date.now() >= dueAtMs) {
        if (now !== state) failures = 0;
        state = now;
        const mapping = typeof place === 'string' ? unmapped(place) : await this.#map(place, wanted);
        if (signal.aborted) return;
        failures = mapping.failure === null || mapping.failure === 'nested-nat' ? 0 : failures + 1;
        dueAtMs = Date.now() + this.#pauseMs(mapping, failures);
        this.#tell(mapping);
      }
      await sleep(this.#times.lookMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** Returns the time until the router is asked again. */
  #pauseMs({ ports }: PortMapping, failures: number): number {
    const { renewMs, leastMs, retryMs } = this.#times;
    if (failures > 0) return retryMs * Math.min(10, 2 ** (failures - 1));
    const leases = ports.flatMap(({ until }) => (until === null ? [] : (Date.parse(until) - Date.now()) / 2));
    return Math.max(leastMs, Math.min(renewMs, ...leases));
  }

  #tell(mapping: PortMapping): void {
    const before = this.#mapping;
    this.#mapping = mapping;
    if (withoutTimes(before) !== withoutTimes(mapping)) this.#options.onChange?.(mapping);
  }

  async #map(place: Place, wanted: readonly WantedPort[]): Promise<PortMapping> {
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(this.#times.roundMs)]);
    for (const [key, { port }] of this.#asked) if (port.of !== place.gateway) this.#asked.delete(key); // out of reach
    const last = this.#mapping.protocol ?? 'nat-pmp';
    const order = [last, last === 'upnp' ? 'nat-pmp' : 'upnp'] as const;
    let result: PortMapping | undefined;
    for (const protocol of order) {
      const gateway = await OPENERS[protocol](place, signal).catch(() => undefined);
      if (gateway === undefined) continue;
      const mapping = await this.#mapAll(place, gateway, wanted, signal);
      if (mapping.ports.length === wanted.length) return mapping;
      if (result === undefined || mapping.ports.length > result.ports.length) result = mapping;
    }
    return result ?? this.#withoutAnswer(place);
  }

  async #mapAll(
    place: Place,
    gateway: Gateway,
    wanted: readonly WantedPort[],
    signal: AbortSignal,
  ): Promise<PortMapping> {
    const { externalAddress = null, protocol } = gateway;
    const ports: MappedPort[] = [];
    let refusal: number | null = null;
    for (const one of wanted) {
      const answer = await this.#mapOne(place, gateway, one, signal);
      if (answer.kind === 'mapped') ports.push(mapped(one, answer));
      if (answer.kind === 'refused') refusal = answer.code;
      if (answer.kind === 'silent') break;
    }
    const isWhole = ports.length === wanted.length;
    const failure =
      refusal !== null
        ? 'refused'
        : !isWhole
          ? 'no-answer'
          : externalAddress === null
            ? 'offline'
            : isPrivate(externalAddress)
              ? 'nested-nat'
              : null;
    return { gateway: place.gateway, protocol, externalAddress, ports, failure, refusal };
  }

  async #mapOne(place: Place, gateway: Gateway, one: WantedPort, signal: AbortSignal): Promise<MapAnswer> {
    const { protocol, port } = one;
    const key = `${place.gateway} ${gateway.protocol} ${protocol} ${port}`;
    const before = this.#asked.get(key);
    const externalPort = before?.port.externalPort ?? port;
    // An answer that is lost, or that nobody waits for any more, may have been a mapping.
    const asked = { of: place.gateway, protocol, internalPort: port, externalPort };
    this.#asked.set(key, { gateway, port: asked });
    const answer = await gateway.map(one, externalPort, signal);
    if (answer.kind === 'refused') this.#asked.delete(key);
    if (answer.kind === 'mapped')
      this.#asked.set(key, { gateway, port: { ...asked, externalPort: answer.externalPort } });
    return answer;
  }

  /** The router is silent. It keeps its mappings until their leases end, unless it was switched off. */
  #withoutAnswer({ gateway }: Place): PortMapping {
    const before = this.#mapping;
    const ports = before.ports.filter(({ until }) => until === null || Date.parse(until) > Date.now());
    if (before.gateway !== gateway || ports.length === 0) return unmapped('no-answer', gateway);
    return { ...before, ports, failure: 'no-answer', refusal: null };
  }
}

interface Asked extends Pick<MappedPort, 'protocol' | 'internalPort' | 'externalPort'> {
  /** Address of the router. */
  readonly of: string;
}

function mapped({ protocol, port }: WantedPort, answer: MapAnswer & { kind: 'mapped' }): MappedPort {
  const { externalPort, leaseSeconds } = answer;
  const until = leaseSeconds === undefined ? null : new Date(Date.now() + leaseSeconds * 1_000).toISOString();
  return { protocol, internalPort: port, externalPort, until };
}

function withoutTimes(mapping: PortMapping): string {
  return JSON.stringify({ ...mapping, ports: mapping.ports.map((port) => ({ ...port, until: null })) });
}
