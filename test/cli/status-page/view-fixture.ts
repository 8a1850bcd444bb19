/** A daemon in use, as its status page shows it. */
import type { DaemonFacts } from '../../../src/daemon/facts.ts';
import { problemsOf } from '../../../src/daemon/web/health.ts';
import { noTraffic, type TrafficSum } from '../../../src/daemon/web/traffic-history.ts';
import type { DaemonView } from '../../../src/daemon/web/watch.ts';
import { NarswarmError } from '../../../src/errors.ts';
import { asFileHash } from '../../../src/nix/hash.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { GIVEN_KINDS } from '../../../src/store/traffic.ts';
import type { SubscriptionStatus } from '../../../src/subscription/state/status.ts';
import type { SubscriptionState } from '../../../src/subscription/state/state.ts';

const AT = new Date('2026-11-30T06:12:00Z');
const HOUR_MS = 3_600_000;
const ADDRESS = `magnet:?xs=urn:btpk:${'8c34a1d7'.repeat(8)}`;
const path = (name: string): ReturnType<typeof parseStorePath> =>
  parseStorePath(`/nix/store/7rjj96m9w0wpz1ibc1kbwx9m0hx2z4wd-${name}`);

function ago(hours: number): string {
  return new Date(AT.getTime() - hours * HOUR_MS).toISOString();
}

/** @param seed decides the figures */
function sum(scaleBytes: number, seed: number): TrafficSum {
  const share = ((seed * 7919) % 97) / 97;
  const bytes = scaleBytes * (0.15 + share);
  const from = {
    neighbours: 0.78 * bytes,
    lanCaches: 0.06 * bytes,
    cohort: 0.05 * bytes,
    clients: 0,
    caches: 0.11 * bytes,
  };
  return {
    from,
    surplus: 0,
    nars: Math.round(bytes / 2e6),
    given: { sent: 1.4 * bytes, toNix: 0.4 * bytes, overHttp: 0.1 * bytes },
  };
}

function total(sums: readonly TrafficSum[]): TrafficSum {
  const all = noTraffic();
  for (const { from, nars, given } of sums) {
    for (const key of Object.keys(from) as (keyof typeof from)[]) all.from[key] += from[key];
    all.nars += nars;
    for (const kind of GIVEN_KINDS) all.given[kind] += given[kind];
  }
  return all;
}

const FACTS: DaemonFacts = {
  version: '0.2.0',
  pid: 812,
  startedAt: ago(76),
  storeDir: '/var/lib/narswarm',
  scope: 'cohort',
  port: 16_277,
  dht: { port: 16_277, nodes: 214 },
  mapPort: 16_276,
  portMapping: null,
  substituters: [],
  nars: 18_412,
  served: { nars: 9_120, bytesToMembers: 212e9, bytesToClients: 3.1e9, bytesToNix: 58e9, bytesOverHttp: 11e9 },
  members: [
    {
      address: '192.168.1.23:16277',
      host: '192.168.1.23',
      isNeighbour: true,
      holds: 17_980,
      sentBytes: 61e9,
      gaveBytes: 83e9,
    },
    {
      address: '192.168.1.40:16277',
      host: '192.168.1.40',
      isNeighbour: true,
      holds: 12_404,
      sentBytes: 44e9,
      gaveBytes: 21e9,
    },
    {
      address: '192.168.1.57:16277',
      host: '192.168.1.57',
      isNeighbour: true,
      holds: 2_310,
      sentBytes: 38e9,
      gaveBytes: 1.2e9,
    },
    { address: '[fd00::a1]:16277', host: 'fd00::a1', isNeighbour: true, holds: null, sentBytes: 0, gaveBytes: 0 },
    {
      address: '203.0.113.80:16277',
      host: '203.0.113.80',
      isNeighbour: false,
      holds: 18_100,
      sentBytes: 2.2e9,
      gaveBytes: 9.8e9,
    },
  ],
  maps: [
    { address: ADDRESS, edition: { seq: 31, created: ago(5), expires: ago(-331), records: 18_240 } },
    { address: `magnet:?xs=urn:btpk:${'51be09f2'.repeat(8)}`, edition: null },
  ],
  published: null,
  updating: ['mirror'],
};

function status(name: string, source: string, more: Partial<SubscriptionStatus>): SubscriptionStatus {
  const root = path(`nixos-system-${name}`);
  return {
    subscription: { name, source, import: true, sources: false, ready: false, publish: false },
    state: state(name, source),
    isDamaged: false,
    isUpdating: false,
    map: { seq: 31, created: new Date(ago(5)), expires: new Date(ago(-331)), isExpired: false, proof: undefined },
    lost: { count: 0, missing: [] },
    silentSince: undefined,
    health: 'complete',
    failure: undefined,
    replicas: { at: ago(0.1), machines: 5, roots: [{ path: root, nars: 4_120, holders: 3, sole: [] }], sole: [] },
    uncounted: undefined,
    roots: [],
    lack: undefined,
    ...more,
  };
}

function state(name: string, source: string): SubscriptionState {
  const root = path(`nixos-system-${name}`);
  return {
    name,
    source,
    generations: [{ number: 31, at: ago(4), wanted: source, roots: [root], complete: true }],
    lastRun: {
      at: ago(4),
      durationMs: 192_000,
      outcome: 'complete',
      bytes: { store: 9e9, peers: 2.7e9, upstream: 4.1e8 },
      nars: 612,
    },
    completeAsOf: ago(4),
    missing: [],
    missingCount: 0,
    notes: [],
  };
}

const MISSING = ['firefox-unwrapped-147.0', 'rustc-1.95.0', 'linux-7.1.2-modules'].map((name) => ({
  path: path(name),
  reason: 'no source has it',
  code: 'NARINFO_MISSING' as const,
}));

const IN_FLIGHT = (
  [
    ['chromium-unwrapped-152.0', 105e6, 61e6, ['192.168.1.23', '192.168.1.40', '203.0.113.80']],
    [
      'nixos-system-desktop-with-a-very-long-name-26.11.20261130.abcdef0-modules-shrunk',
      78e6,
      77.9e6,
      ['192.168.1.57'],
    ],
    ['ghc-9.14.1', 65e6, 2e6, ['https://cache.nixos.org']],
    ['texlive-2026', 56e6, 0, []],
    ...['a', 'b', 'c', 'd'].map((name) => [name, 1e6, 5e5, ['192.168.1.23']] as const),
  ] as const
).map(([name, sizeBytes, heldBytes, from]) => ({
  path: path(name),
  fileHash: asFileHash(`sha256:${'0'.repeat(52)}`),
  sizeBytes,
  heldBytes,
  from,
}));

/** A home with three other machines, one subscription that lacks paths, and a fetch. */
export function viewInUse(): DaemonView {
  const days = Array.from({ length: 30 }, (_, index) => ({
    at: new Date(AT.getTime() - (29 - index) * 24 * HOUR_MS),
    sum: sum(34e9, index + 3),
  }));
  const hours = Array.from({ length: 24 }, (_, index) => ({
    at: new Date(AT.getTime() - (23 - index) * HOUR_MS),
    sum: index === 19 ? sum(19e9, 5) : index % 5 === 0 ? sum(1.5e9, index) : noTraffic(),
  }));
  const bad = state('lab', 'https://hydra.example.org/lab/store-paths.xz');
  const lack = { first: MISSING[0]!, count: 3 };
  const subscriptions = [
    status('desktop', `${ADDRESS}#desktop`, {}),
    status('lab', 'https://hydra.example.org/lab/store-paths.xz', {
      health: 'incomplete',
      map: undefined,
      failure: new NarswarmError('NARINFO_MISSING', 'paths are missing'),
      lack,
      replicas: undefined,
      state: {
        ...bad,
        lastRun: { ...bad.lastRun!, outcome: 'incomplete' },
        missing: MISSING,
        missingCount: 3,
      },
    }),
    status('mirror', ADDRESS, {
      replicas: {
        at: ago(0.1),
        machines: 5,
        roots: [
          {
            path: path('mirror'),
            nars: 18_240,
            holders: 1,
            sole: [{ nar: 'a.nar.xz', path: path('texlive-2026'), sizeBytes: 2.4e9 }],
          },
        ],
        sole: [],
      },
    }),
    status('laptop', '.#nixosConfigurations.laptop.config.system.build.toplevel', {
      health: 'never',
      state: undefined,
      map: undefined,
      replicas: undefined,
    }),
  ];
  return {
    at: AT,
    facts: FACTS,
    subscriptions,
    problems: problemsOf(FACTS, subscriptions, AT),
    day: total(hours.map((hour) => hour.sum)),
    month: total(days.map((day) => day.sum)),
    hours,
    days,
    rates: { neighbours: 71e6, lanCaches: 0, cohort: 2.1e6, clients: 0, caches: 6.4e6 },
    running: [{ by: '1', downloads: { nars: 340, bytes: 3.4e9, doneNars: 112, doneBytes: 1.3e9 } }],
    inFlight: IN_FLIGHT,
    sinceStart: sum(2e11, 4),
    fallbacks: new Map([
      ['fetched-again', 2],
      ['peers-again', 1],
    ]),
  };
}

/** A daemon that has just been installed. */
export function newView(): DaemonView {
  const view = viewInUse();
  const facts = {
    ...FACTS,
    startedAt: ago(0.01),
    dht: null,
    mapPort: null,
    nars: 0,
    members: [],
    maps: [],
    updating: [],
  };
  const nothing = noTraffic();
  return {
    ...view,
    facts: {
      ...facts,
      served: { nars: 0, bytesToMembers: 0, bytesToClients: 0, bytesToNix: 0, bytesOverHttp: 0 },
    },
    subscriptions: [],
    problems: [],
    day: nothing,
    month: nothing,
    hours: view.hours.map(({ at }) => ({ at, sum: nothing })),
    days: view.days.map(({ at }) => ({ at, sum: nothing })),
    rates: nothing.from,
    running: [],
    inFlight: [],
    sinceStart: nothing,
    fallbacks: new Map(),
  };
}
