import { join } from 'node:path';
import { Command } from 'commander';
import { DEFAULT_SHARE_KEYS, chooseShareKeys } from '../../serve/share-keys.ts';
import { parseBudget } from '../../config/units.ts';
import type { DaemonFacts } from '../../daemon/facts.ts';
import type { Finding, Verdict } from '../../daemon/doctor/finding.ts';
import type { DoctorPort, Setup } from '../../daemon/doctor/examine.ts';
import { PUBLIC_NODES } from '../../discovery/public-nodes.ts';
import type { PublisherAddress } from '../../index/address.ts';
import { stateOfOwner, pidOfOwner } from '../../disk/owner.ts';
import { NarswarmError, isNarswarmError, type ErrorCode } from '../../errors.ts';
import type { Subscription } from '../../subscription/subscription.ts';
import { inState, STATE_FOLDER } from '../../store/state-folder.ts';
import { GROUP_PORTS, SERVICE_PORTS } from '../../wire/ports.ts';
import { sentenceOf } from '../words/doctor-sentences.ts';
import { fitted } from '../words/fitting.ts';
import { addMapPort, type MapPortFlags } from '../port-mapping.ts';
import { addHttpPort } from '../options/publish-options.ts';
import { command, type CommonOptions } from '../run-command.ts';
import {
  addCommon,
  addKeys,
  addNetwork,
  addPublishers,
  addShareKeys,
  defaultStoreDir,
  type NetworkFlags,
} from '../options/shared-options.ts';
import { readTrust } from '../options/trust.ts';
import { formatCount, one } from '../words/values.ts';

interface DoctorFlags extends CommonOptions, NetworkFlags, MapPortFlags {
  readonly store: string;
  readonly maxSize?: number;
  readonly httpPort?: number;
  readonly publisher?: readonly PublisherAddress[];
  readonly trustedPublicKey?: readonly string[];
}

/** The class of failure of each check, for the exit status. */
const CODES: Readonly<Record<Finding['check'], ErrorCode>> = {
  versions: 'NIX_MISSING',
  'nix-conf': 'NIX_FAILED',
  keys: 'NARINFO_UNTRUSTED',
  store: 'STORE_UNWRITABLE',
  roots: 'NIX_FAILED',
  clock: 'INDEX_INVALID',
  daemon: 'LISTEN_FAILED',
  port: 'LISTEN_FAILED',
  reach: 'LISTEN_FAILED',
  firewall: 'LISTEN_FAILED',
  interfaces: 'LISTEN_FAILED',
  multicast: 'LISTEN_FAILED',
  router: 'LISTEN_FAILED',
  dht: 'INDEX_UNREACHABLE',
};

/** A time after the expiry of every hash map: none is refused for its age. */
const END_OF_TIME = new Date(8.64e15);

/** Column of the sentences: after the mark and the name of the check. */
const TEXT_COLUMN = 16;
const MARKS: Readonly<Record<Verdict, string>> = { good: 'ok', unsure: '??', bad: '!!' };

export function doctorCommand(): Command {
  const doctor = new Command('doctor')
    .summary('find what keeps this machine from sharing')
    .description(
      'find problems that keep this machine from sharing: Nix, keys, disk, GC roots, clock, ports, firewall, multicast, and the router’s mappings and the DHT if they are used',
    )
    .option('--store <dir>', 'file store to check', defaultStoreDir())
    .option('--max-size <size>', 'limit for the size of all NARs, such as 50G (default: none)', one(parseBudget))
    .option('--publish', 'check the ports of a publisher, too');
  addHttpPort(doctor);
  addPublishers(doctor, 'hash map that is followed; may be repeated');
  addKeys(doctor);
  addShareKeys(doctor);
  addNetwork(doctor, { scope: 'lan', ports: SERVICE_PORTS });
  addMapPort(doctor, 'the router should map the ports of the daemon: say what keeps it from that');
  addCommon(
    doctor,
    ['narswarm doctor', 'sudo narswarm doctor   # root may read the firewall', 'narswarm doctor --json --quiet'],
    ['UNTRUSTED', 'INDEX', 'STORE', 'NIX', 'LISTEN'],
  );
  return doctor.action(
    command<DoctorFlags, []>(async ({ output, signal, options, config: load }) => {
      const { examine } = await import('../../daemon/doctor/examine.ts');
      const config = await load();
      const { publishersOf } = await import('../../subscription/source/source.ts');
      const publishers = publishersOf(options.publisher ?? [], config.subscriptions);
      const stateDir = join(options.store, STATE_FOLDER);
      const ofDaemon = await factsOf(stateDir);
      const setup = {
        storeDir: options.store,
        maxBytes: options.maxSize,
        ports: portsOf(options, publishers.length > 0),
        usesLan: options.lan && options.scope !== 'off',
        dht: dhtOf(options, publishers),
        keys: await keysOf(options, signal),
        imported: await importedOf(stateDir, config.subscriptions),
        ...(await datesOf(stateDir, publishers)),
        router: routerOf(options, ofDaemon),
        daemon: await daemonOf(stateDir, ofDaemon),
      };
      const counts: Record<Verdict, number> = { good: 0, unsure: 0, bad: 0 };
      const bad: Finding[] = [];
      for await (const finding of examine(setup, new Date(), signal)) {
        const { check, verdict, facts } = finding;
        const { text, wayOut } = sentenceOf(finding);
        counts[verdict]++;
        if (verdict === 'bad') bad.push(finding);
        const advice = verdict === 'good' ? undefined : wayOut;
        output.result(
          'finding',
          { check, verdict, facts, message: text, wayOut: advice ?? null },
          options.quiet === true && verdict === 'good'
            ? undefined
            : fitted(
                `${MARKS[verdict]}  ${check.padEnd(10)}  ${text}${advice === undefined ? '' : `: ${output.forPeople(advice)}`}`,
                output.columns,
                () => TEXT_COLUMN,
              ),
        );
      }
      output.result('examined', counts, bad.length === 0 ? 'nothing is in the way' : undefined);
      const [first] = bad;
      if (first === undefined) return;
      const checks = [...new Set(bad.map(({ check }) => check))].join(', ');
      throw new NarswarmError(CODES[first.check], `${formatCount(bad.length, 'problem')} found: ${checks}`, {
        facts: { problems: bad.length },
      });
    }),
  );
}

/** Returns whether the DHT is used, for which purpose, and which nodes to ask. */
function dhtOf(flags: DoctorFlags, publishers: readonly PublisherAddress[]): Setup['dht'] {
  const { dht, scope, publish, dhtBootstrap, dhtPort, listen } = flags;
  const isAnnounced = scope === 'cohort' || scope === 'public';
  const isPointed = publish === true || publishers.some(({ baseUrl }) => baseUrl === undefined);
  const [port = 0] = dhtPort === undefined ? SERVICE_PORTS.dht : [dhtPort];
  return {
    isUsed: dht && scope !== 'off' && (publishers.length > 0 || publish === true || scope === 'public'),
    isNeeded: isPointed || isAnnounced,
    isAnnounced,
    nodes: dhtBootstrap ?? PUBLIC_NODES,
    port,
    host: listen,
  };
}

/**
 * Returns the ports that others must reach. Leaves out ports that the system picks: no firewall can be opened for them.
 */
function portsOf(flags: DoctorFlags, follows: boolean): DoctorPort[] {
  const { scope, port, dhtPort, httpPort, publish } = flags;
  if (scope === 'off') return [];
  const [peers = 0] = port === undefined ? SERVICE_PORTS.peers : [port];
  const [dht = 0] = dhtPort === undefined ? SERVICE_PORTS.dht : [dhtPort];
  const [http = 0] = httpPort === undefined ? SERVICE_PORTS.http : [httpPort];
  const isAnnounced = scope === 'cohort' || scope === 'public';
  const ports: DoctorPort[] = [
    { protocol: 'tcp', port: peers, purpose: 'peers' },
    ...(publish === true || follows ? [{ protocol: 'tcp', port: http, purpose: 'http' } as const] : []),
    ...(flags.dht && (isAnnounced || publish === true)
      ? [{ protocol: 'udp', port: dht, purpose: 'dht' } as const]
      : []),
    ...(flags.lan
      ? ([
          { protocol: 'udp', port: GROUP_PORTS.discovery, purpose: 'discovery' },
          { protocol: 'udp', port: GROUP_PORTS.mdns, purpose: 'mdns' },
        ] as const)
      : []),
  ];
  return ports.filter((wanted) => wanted.port !== 0);
}

async function keysOf({ trustedPublicKey, shareKeys }: DoctorFlags, signal: AbortSignal): Promise<Setup['keys']> {
  try {
    const { keys } = await readTrust({ trustedPublicKey, from: [] }, signal, () => undefined);
    const chosen = chooseShareKeys(keys, shareKeys ?? DEFAULT_SHARE_KEYS);
    const namesOf = (list: readonly { readonly name: string }[]): string[] => list.map(({ name }) => name);
    const unknown = shareKeys === undefined ? [] : chosen.unknown;
    return { trusted: namesOf(keys), shared: namesOf(chosen.keys), unknown, failure: undefined };
  } catch (error) {
    if (isNarswarmError(error, 'NIX_MISSING', 'NIX_FAILED')) return undefined;
    if (isNarswarmError(error, 'KEY_INVALID')) return { trusted: [], shared: [], unknown: [], failure: error.message };
    throw error;
  }
}

/** Returns the times of the last updates, and of the signatures and expiries of the kept hash maps. */
async function datesOf(
  stateDir: string,
  publishers: readonly PublisherAddress[],
): Promise<Pick<Setup, 'past' | 'expiries'>> {
  const { listStates } = await import('../../subscription/state/state.ts');
  const { indexDirOf } = await import('../../index/files/index-dir.ts');
  const { readKept } = await import('../../index/format/verified-manifest.ts');
  const runs = (await listStates({ stateDir })).flatMap(({ lastRun }) =>
    lastRun === undefined ? [] : new Date(lastRun.at),
  );
  const maps = await Promise.all(
    publishers.map((address) => readKept(address, indexDirOf(inState({ stateDir }, 'index'), address), END_OF_TIME)),
  );
  const manifests = maps.flatMap((kept) => kept?.manifest ?? []);
  return {
    past: [...runs, ...manifests.map(({ created }) => created)],
    expiries: manifests.map(({ expires }) => expires),
  };
}

/** Returns the newest generations of the imported subscriptions, as far as they are complete. */
async function importedOf(stateDir: string, subscriptions: readonly Subscription[]): Promise<Setup['imported']> {
  const { readState } = await import('../../subscription/state/state.ts');
  const imported: Setup['imported'][number][] = [];
  for (const { name, to, import: imports } of subscriptions) {
    const [newest] = imports ? ((await readState({ stateDir }, name))?.generations ?? []) : [];
    if (newest?.complete === true) imported.push({ name, to, paths: newest.roots });
  }
  return imported;
}

/** Time for the daemon to send its facts. It answers within milliseconds. */
const ANSWER_MS = 1_000;

/** Returns what the daemon of a store does. Undefined if none answers. */
async function factsOf(stateDir: string): Promise<DaemonFacts | undefined> {
  const { askDaemon } = await import('../../daemon/facts-socket.ts');
  const asked = await askDaemon({ stateDir }, ANSWER_MS);
  return asked.kind === 'running' ? asked.facts : undefined;
}

/** Returns what the daemon has the router do. Undefined if nobody answers, and nobody wants a mapping. */
function routerOf({ mapPort }: DoctorFlags, facts: DaemonFacts | undefined): Setup['router'] {
  const isWanted = mapPort === true;
  if (facts === undefined) return isWanted ? { isWanted, isAsked: false, mapping: undefined } : undefined;
  return { isWanted, isAsked: true, mapping: facts.portMapping ?? undefined };
}

async function daemonOf(stateDir: string, facts: DaemonFacts | undefined): Promise<Setup['daemon']> {
  if (facts !== undefined) return { pid: facts.pid, isAnotherMachine: false, port: facts.port, scope: facts.scope };
  const { ownersAtWork } = await import('../../store/turn.ts');
  for (const owner of await ownersAtWork({ stateDir }, 'serving')) {
    const isAnotherMachine = (await stateOfOwner(owner)) === 'unknown';
    return { pid: isAnotherMachine ? undefined : Number(pidOfOwner(owner)), isAnotherMachine };
  }
  for (const owner of await ownersAtWork({ stateDir }, 'seeding'))
    if ((await stateOfOwner(owner)) === 'alive')
      return { pid: undefined, isAnotherMachine: false, publisherPid: Number(pidOfOwner(owner)) };
  return undefined;
}
