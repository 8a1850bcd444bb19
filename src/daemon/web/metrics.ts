import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { TRAFFIC_SOURCES } from '../../store/traffic.ts';
import { soleNars } from '../../store/replicas.ts';
import type { DaemonView } from './watch.ts';

/** Metrics of a daemon, in Prometheus' names and units. */
export class Metrics {
  readonly contentType: string;
  readonly #registry = new Registry();
  readonly #fetches: Histogram;
  readonly #requests: Histogram<'route'>;
  readonly #set: ((view: DaemonView) => void)[] = [];

  constructor() {
    const registers = [this.#registry];
    this.contentType = this.#registry.contentType;
    // A process without work must not wake up a hundred times a second for the delay of its event loop.
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: 1_000 });
    this.#fetches = new Histogram({
      name: 'narswarm_fetch_duration_seconds',
      help: 'Time from the first byte to the last one of a fetch or update',
      buckets: [1, 3, 10, 30, 60, 180, 600, 1_800, 3_600, 10_800],
      registers,
    });
    this.#requests = new Histogram({
      name: 'narswarm_http_request_duration_seconds',
      help: 'Time of a request of the HTTP port until its last byte',
      labelNames: ['route'],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers,
    });
    this.#gauge('info', 'Version and scope of the daemon', ['version', 'scope'], ({ facts }) => [
      [{ version: facts.version, scope: facts.scope }, 1],
    ]);
    this.#counter('received_bytes_total', 'Bytes of NARs received, by sender', ['source'], ({ sinceStart }) =>
      TRAFFIC_SOURCES.map((source) => [{ source: inSnakeCase(source) }, sinceStart.from[source]]),
    );
    this.#counter('received_nars_total', 'NARs received and verified', [], ({ sinceStart }) => [[{}, sinceStart.nars]]);
    this.#counter(
      'sent_bytes_total',
      'Bytes of NARs given: to members, BitTorrent clients, other machines over HTTP, Nix of this machine',
      ['to'],
      ({ facts: { served } }) => [
        [{ to: 'members' }, served.bytesToMembers],
        [{ to: 'clients' }, served.bytesToClients],
        [{ to: 'http' }, served.bytesOverHttp],
        [{ to: 'nix' }, served.bytesToNix],
      ],
    );
    this.#counter('served_nars_total', 'NARs given to others', [], ({ facts }) => [[{}, facts.served.nars]]);
    this.#counter('fallbacks_total', 'Failures for which another source made up', ['reason'], ({ fallbacks }) =>
      Array.from(fallbacks, ([reason, count]) => [{ reason }, count]),
    );
    this.#gauge('nars', 'NARs held whose pieces are known', [], ({ facts }) => [[{}, facts.nars]]);
    this.#gauge('members', 'Connected members', ['network'], ({ facts: { members } }) => [
      [{ network: 'local' }, members.filter(({ isNeighbour }) => isNeighbour).length],
      [{ network: 'other' }, members.filter(({ isNeighbour }) => !isNeighbour).length],
    ]);
    this.#gauge('dht_nodes', 'Nodes in the routing table of the DHT', [], ({ facts }) => [[{}, facts.dht?.nodes ?? 0]]);
    this.#gauge(
      'mapped_ports',
      'Ports that the router maps to this machine',
      ['protocol'],
      ({ facts: { portMapping } }) =>
        portMapping === null
          ? []
          : (['tcp', 'udp'] as const).map((protocol) => [
              { protocol },
              portMapping.ports.filter((port) => port.protocol === protocol).length,
            ]),
    );
    this.#gauge('map_age_seconds', 'Age of the held edition of a followed hash map', ['map'], ({ facts, at }) =>
      facts.maps.flatMap(({ address: map, edition }) =>
        edition === null ? [] : [[{ map }, (at.getTime() - Date.parse(edition.created)) / 1_000] as const],
      ),
    );
    this.#gauge('map_expires_timestamp_seconds', 'Time at which a followed hash map expires', ['map'], ({ facts }) =>
      facts.maps.flatMap(({ address: map, edition }) =>
        edition === null ? [] : [[{ map }, Date.parse(edition.expires) / 1_000] as const],
      ),
    );
    this.#gauge('subscription_complete', '1 if a subscription is complete', ['name'], ({ subscriptions }) =>
      subscriptions.map(({ subscription: { name }, health }) => [{ name }, health === 'complete' ? 1 : 0]),
    );
    this.#gauge('subscription_missing_paths', 'Missing paths of a subscription', ['name'], ({ subscriptions }) =>
      subscriptions.map(({ subscription: { name }, state, lost }) => [
        { name },
        lost === undefined || lost.count === 0 ? (state?.missingCount ?? 0) : lost.count,
      ]),
    );
    this.#gauge('subscription_last_run_timestamp_seconds', 'Begin of the last update', ['name'], ({ subscriptions }) =>
      subscriptions.flatMap(({ subscription: { name }, state }) =>
        state?.lastRun === undefined ? [] : [[{ name }, Date.parse(state.lastRun.at) / 1_000] as const],
      ),
    );
    this.#gauge('sole_nars', 'NARs of subscriptions that no other machine holds', [], ({ subscriptions }) => [
      [{}, Math.max(0, ...subscriptions.map(({ replicas }) => soleNars(replicas).size))],
    ]);
    this.#gauge('problems', 'What is wrong, as /health tells', [], ({ problems }) => [[{}, problems.length]]);
  }

  /** Counts a request. */
  onRequest(route: string, seconds: number): void {
    this.#requests.observe({ route }, seconds);
  }

  /** Counts a fetch that has ended. */
  onFetch(seconds: number): void {
    this.#fetches.observe(seconds);
  }

  /** Returns the metrics as text. */
  async text(view: DaemonView): Promise<string> {
    for (const set of this.#set) set(view);
    return this.#registry.metrics();
  }

  #gauge<L extends string>(name: string, help: string, labelNames: readonly L[], values: Values<L>): void {
    const gauge = new Gauge({ name: `narswarm_${name}`, help, labelNames, registers: [this.#registry] });
    this.#set.push((view) => {
      gauge.reset();
      for (const [labels, value] of values(view)) gauge.set(labels, value);
    });
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[], values: Values<L>): void {
    const counter = new Counter({ name: `narswarm_${name}`, help, labelNames, registers: [this.#registry] });
    this.#set.push((view) => {
      counter.reset();
      for (const [labels, value] of values(view)) counter.inc(labels, value);
    });
  }
}

type Values<L extends string> = (view: DaemonView) => readonly (readonly [Partial<Record<L, string>>, number])[];

function inSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
