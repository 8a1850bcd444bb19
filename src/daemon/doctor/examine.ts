import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { execFile } from 'node:child_process';
import { freeBytesAt } from '../../disk/free-bytes.ts';
import { systemCode } from '../../disk/store-error.ts';
import { LocalNetworks } from '../../discovery/local-networks.ts';
import { isNarswarmError } from '../../errors.ts';
import { isUntrusted } from '../../nix/programs/daemon-trust.ts';
import { isAbsentStore } from '../../nix/store-place.ts';
import { describeStore, nixVersion, readNixConfig } from '../../nix/programs/nix-settings.ts';
import { VERSION } from '../../version.ts';
import type { Endpoint } from '../../discovery/endpoint.ts';
import { askDht } from './dht.ts';
import { found, type Finding, type Findings } from './finding.ts';
import { barriersOf, managerOf, passageOf, type Firewall } from './firewall.ts';
import { parseIptables } from './iptables.ts';
import { listenerOf, type Listener } from './listeners.ts';
import { testMulticast } from './multicast.ts';
import { parseNftables } from './nftables.ts';
import { examineRoots, type ImportedGeneration } from './roots.ts';

/** A port that others must reach. */
export interface DoctorPort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly purpose: Findings['firewall']['purpose'];
}

/** The configuration of this machine. */
export interface Setup {
  /** The file store. */
  readonly storeDir: string;
  readonly maxBytes: number | undefined;
  /** Ports of the daemon. None with scope `off`. */
  readonly ports: readonly DoctorPort[];
  /** True if neighbours are looked for by multicast. */
  readonly usesLan: boolean;
  readonly dht: {
    readonly isUsed: boolean;
    readonly isNeeded: boolean;
    readonly isAnnounced: boolean;
    readonly nodes: readonly Endpoint[];
    readonly port: number;
    /** Address to ask from. Default: any. */
    readonly host: string | undefined;
  };
  /** Undefined if Nix cannot be asked which keys it trusts. */
  readonly keys: Findings['keys'] | undefined;
  /** Newest generations in a Nix store. */
  readonly imported: readonly ImportedGeneration[];
  /** Times that must be in the past, such as those at which the followed maps were signed. */
  readonly past: readonly Date[];
  /** Expiry times of the kept hash maps of the followed publishers. */
  readonly expiries: readonly Date[];
  /** The ports that the router maps to this machine. Undefined if no daemon answers, and `map-port` is not set. */
  readonly router: Findings['router'] | undefined;
  /** The daemon of the store, if there is one. */
  readonly daemon: Findings['daemon'] | undefined;
}

/** The oldest Nix that narswarm is tested with. */
const OLDEST_NIX = [2, 8] as const;
/** Limit on how far the clock may be behind a recorded time. */
const CLOCK_SLACK_MS = 10 * 60_000;
/** Least free space. With less, a closure may not fit. */
const LITTLE_BYTES = 1e9;
const CONNECT_MS = 2_000;
/** Time for an answer of Nix. */
const NIX_MS = 15_000;

/**
 * Checks everything that may keep this machine from sharing, one check after another. Contacts nothing on the internet
 * except the bootstrap nodes of the DHT, and these only if the DHT is used.
 */
export async function* examine(setup: Setup, now: Date, signal: AbortSignal): AsyncGenerator<Finding> {
  yield* examineNix(signal);
  if (setup.keys !== undefined) yield keysOf(setup.keys);
  yield await examineStore(setup);
  yield* examineRoots(setup.imported, signal);
  yield clockOf(setup, now);
  const daemon = setup.daemon ?? { pid: undefined, isAnotherMachine: false };
  const { pid, isAnotherMachine, publisherPid } = daemon;
  const isServed = pid !== undefined || isAnotherMachine || publisherPid !== undefined;
  yield found('daemon', isServed ? 'good' : 'unsure', daemon);
  if (setup.ports.length === 0) return;
  const networks = new LocalNetworks();
  const names = networks.interfaces.map(({ name }) => name);
  yield found('interfaces', names.length === 0 ? 'bad' : 'good', { names });
  for (const { protocol, port, purpose } of setup.ports) {
    if (purpose === 'discovery' || purpose === 'mdns') continue;
    const listener = await listenerOf(protocol, port);
    const isOurs = listener?.pid !== undefined && listener.pid === pid;
    const verdict = listener === undefined && pid === undefined ? 'good' : verdictOfPort(listener, isOurs);
    yield found('port', verdict, { protocol, port, purpose, listener, isOurs, daemonPid: pid });
    if (protocol === 'tcp' && isOurs) yield* reach(networks, port, signal);
  }
  yield* examineFirewall(setup.ports, networks, signal);
  if (setup.usesLan)
    for (const { interface: name, isHeard, others, failure } of await testMulticast(networks.interfaces, signal))
      yield found('multicast', isHeard ? 'good' : 'bad', { interface: name, isHeard, others, failure });
  if (setup.router !== undefined) yield routerOf(setup.router);
  yield await examineDht(setup, networks, signal);
}

function routerOf(router: Findings['router']): Finding {
  const { mapping, isWanted, isAsked } = router;
  const isOff = isAsked && !isWanted && mapping === undefined;
  const isMapped = mapping !== undefined && mapping.failure === null && mapping.ports.length > 0;
  const isPending = mapping === undefined || mapping.failure === null || mapping.failure === 'scope';
  return found('router', isMapped || isOff ? 'good' : isPending ? 'unsure' : 'bad', router);
}

async function* examineNix(signal: AbortSignal): AsyncGenerator<Finding> {
  let nix: string | undefined;
  let isMissing = false;
  try {
    nix = await nixVersion({ signal, limitMs: NIX_MS });
  } catch (error) {
    isMissing = isNarswarmError(error, 'NIX_MISSING');
    orNarswarm(error, undefined); // a nix.conf that it cannot read, which is found below
  }
  const isOld = nix !== undefined && isOlder(nix, OLDEST_NIX);
  const versions = { narswarm: VERSION, node: process.version, nix, oldestNix: OLDEST_NIX.join('.'), isMissing };
  yield found('versions', isMissing || isOld ? 'bad' : nix === undefined ? 'unsure' : 'good', versions);
  if (isMissing) return;
  try {
    const { substituters, trustedPublicKeys } = await readNixConfig({ signal, limitMs: NIX_MS });
    const isAbsent = await isAbsentStore(undefined); // Nix would create it for any question
    const { url } = isAbsent ? {} : await describeStore({ signal, limitMs: NIX_MS });
    const isTrustedUser = !(await isUntrusted(undefined, { signal, limitMs: NIX_MS }));
    yield found('nix-conf', isAbsent ? 'unsure' : 'good', {
      substituters,
      trustedKeys: trustedPublicKeys.length,
      store: url,
      isAbsent,
      isTrustedUser,
      failure: undefined,
      isDaemonDenied: false,
    });
  } catch (error) {
    const { isDaemonDenied = false, words } = isNarswarmError(error, 'NIX_FAILED') ? error.facts : {};
    const failure = orNarswarm(error, words ?? (error as Error).message);
    const nothing = {
      substituters: [],
      trustedKeys: 0,
      store: undefined,
      isAbsent: false,
      isTrustedUser: undefined,
    };
    yield found('nix-conf', 'bad', { ...nothing, failure, isDaemonDenied });
  }
}

/** Compares the first two numbers of a version, such as 2.8.1 or 2.24pre20240723. */
function isOlder(version: string, [major, minor]: readonly [number, number]): boolean {
  const [, own = '0', second = '0'] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(own) < major || (Number(own) === major && Number(second) < minor);
}

/** Returns `value` for an error of Nix. Throws other errors. */
function orNarswarm<T>(error: unknown, value: T): T {
  if (isNarswarmError(error, 'NIX_MISSING', 'NIX_FAILED')) return value;
  throw error;
}

function keysOf(keys: Findings['keys']): Finding {
  const verdict = keys.trusted.length === 0 ? 'bad' : keys.shared.length === 0 ? 'unsure' : 'good';
  return found('keys', verdict, keys);
}

async function examineStore({ storeDir: path, maxBytes }: Setup): Promise<Finding> {
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  let place = path;
  while (!(await isThere(place)) && dirname(place) !== place) place = dirname(place);
  const failure = await access(place, constants.W_OK | constants.X_OK).then(
    () => undefined,
    (error: unknown) => systemCode(error) ?? String(error),
  );
  const freeBytes = await freeBytesAt(place).catch(() => undefined);
  const isFull = freeBytes !== undefined && freeBytes < LITTLE_BYTES;
  return found('store', failure !== undefined || isFull ? 'bad' : 'good', {
    path,
    exists,
    failure,
    freeBytes,
    maxBytes,
  });
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function clockOf({ past, expiries }: Setup, now: Date): Finding {
  const latest = past.toSorted((a, b) => b.getTime() - a.getTime())[0];
  const isBehind = latest !== undefined && latest.getTime() - now.getTime() > CLOCK_SLACK_MS;
  const later = isBehind ? latest.toISOString() : undefined;
  const expired = isBehind ? undefined : expiries.find((expiry) => expiry <= now)?.toISOString();
  const verdict = isBehind ? 'bad' : expired === undefined ? 'good' : 'unsure';
  return found('clock', verdict, { now: now.toISOString(), later, expired });
}

function verdictOfPort(listener: Listener | undefined, isOurs: boolean): Finding['verdict'] {
  if (isOurs || listener?.work === 'publish') return 'good';
  return listener === undefined || listener.pid === undefined || listener.work !== undefined ? 'unsure' : 'bad';
}

/** Connects to this machine's own address on each local network, as a neighbour would. */
async function* reach(networks: LocalNetworks, port: number, signal: AbortSignal): AsyncGenerator<Finding> {
  for (const { ipv4 } of networks.interfaces) {
    for (const { address } of ipv4.slice(0, 1)) {
      const failure = await failureToConnect(address, port, signal);
      yield found('reach', failure === undefined ? 'good' : 'bad', { address, port, failure });
    }
  }
}

async function failureToConnect(host: string, port: number, signal: AbortSignal): Promise<string | undefined> {
  const socket = connect({ host, port });
  try {
    await once(socket, 'connect', { signal: AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]) });
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    return systemCode(error) ?? 'ETIMEDOUT';
  } finally {
    socket.destroy();
  }
}

async function examineDht({ dht, router }: Setup, networks: LocalNetworks, signal: AbortSignal): Promise<Finding> {
  const { isUsed, isNeeded, isAnnounced, port, host } = dht;
  const answers = isUsed ? await askDht(dht.nodes, { port, host }, signal) : { nodes: [], seenAs: [], port };
  const [seenAs] = answers.seenAs;
  const isBehindNat = seenAs && !networks.isOwn(seenAs.host);
  const hasAnswer = answers.nodes.some(({ failure }) => failure === undefined);
  const isMapped = router?.mapping?.failure === null && router.mapping.ports.length > 0;
  const isUnreachable = isAnnounced && isBehindNat === true && !isMapped;
  const verdict = !isUsed || (hasAnswer && !isUnreachable) ? 'good' : hasAnswer || !isNeeded ? 'unsure' : 'bad';
  return found('dht', verdict, { ...answers, isUsed, isNeeded, isAnnounced, isBehindNat, isMapped });
}

async function* examineFirewall(
  ports: readonly DoctorPort[],
  networks: LocalNetworks,
  signal: AbortSignal,
): AsyncGenerator<Finding> {
  const rules = await readFirewall(signal);
  const manager = rules.map(({ firewall }) => managerOf(firewall)).find((name) => name !== undefined);
  for (const { name } of networks.interfaces) {
    for (const { protocol, port, purpose } of ports) {
      const packet = { protocol, port, interface: name };
      const passages = rules.map(({ source, firewall }) => ({
        source,
        passage: passageOf(firewall, packet),
        barriers: barriersOf(firewall, packet),
      }));
      const worst =
        passages.find(({ passage }) => passage === 'closed') ??
        passages.find(({ passage }) => passage === 'unknown') ??
        passages[0];
      const passage = worst?.passage ?? 'unknown';
      const verdict = passage === 'open' ? 'good' : passage === 'closed' ? 'bad' : 'unsure';
      const { source, barriers = [] } = worst ?? {};
      yield found('firewall', verdict, { ...packet, purpose, passage, source, barriers, manager });
    }
  }
}

interface Rules {
  readonly source: 'nftables' | 'iptables';
  readonly firewall: Firewall;
}

/** Returns the rules that this user may read. Empty if there are none. */
async function readFirewall(signal: AbortSignal): Promise<Rules[]> {
  const readers = [
    { source: 'nftables', command: ['nft', '--json', 'list', 'ruleset'], parse: parseNftables },
    { source: 'iptables', command: ['iptables-save'], parse: parseIptables },
  ] as const;
  const read = readers.map(async ({ source, command: [program, ...args], parse }): Promise<Rules[]> => {
    try {
      const { stdout } = await promisify(execFile)(program, args, { signal, maxBuffer: 2 ** 26 });
      return [{ source, firewall: parse(stdout) }];
    } catch {
      signal.throwIfAborted();
      return []; // the program is missing, or only root may run it
    }
  });
  return (await Promise.all(read)).flat();
}
