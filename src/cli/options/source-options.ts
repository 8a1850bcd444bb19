import { Option, type Command } from 'commander';
import { NarswarmError } from '../../errors.ts';
import { IMPORT_WAYS, type ImportWay } from '../../nix/programs/import-way.ts';
import type { RunFetchOptions } from '../../fetch/run-fetch.ts';
import type { PublisherAddress } from '../../index/address.ts';
import { METERED, type Metered } from '../../subscription/update/metered.ts';
import type { OriginOf } from './configuration.ts';
import { groupFrom, SOURCES_AND_TRUST } from './option-groups.ts';
import type { Output } from '../output.ts';
import {
  addKeys,
  addPeers,
  addPublishers,
  addShareKeys,
  limitsOf,
  networkOptions,
  sharedKeys,
  withNeighbours,
  type NetworkFlags,
} from './shared-options.ts';
import { readTrust } from './trust.ts';
import { each, parseRequired, parseTimeout } from '../words/values.ts';

/** Failures of a command that fetches and imports, for its help. */
export const FETCH_STATUSES = [
  'NOT_FOUND',
  'UNTRUSTED',
  'SOURCES_FAILED',
  'INDEX',
  'STORE',
  'NIX',
  'LISTEN',
  'INTERRUPTED',
] as const;

/** Options of every command that fetches, as commander gives them. */
export interface SourceFlags extends NetworkFlags {
  readonly publisher?: readonly PublisherAddress[];
  readonly from?: readonly string[];
  readonly upstream: boolean;
  readonly trustedPublicKey?: readonly string[];
  readonly require?: number;
  readonly publisherTimeout?: number;
  readonly peerTimeout?: number;
  readonly deltas: boolean;
  /** Only for commands that may run beside somebody's work. */
  readonly yield?: boolean;
  readonly metered?: Metered;
  /** Only for commands that import. */
  readonly importWith?: ImportWay;
}

/** Adds the options for the sources of narinfos and NARs, and for the keys that must sign them. */
export function addSources(command: Command): Command {
  const before = command.options.length;
  addPublishers(command, 'address of a hash map (magnet: or the http(s) URL of a mirror); may be repeated');
  command
    .option(
      '--from <url>',
      'binary cache for NARs that peers do not have: an http(s) URL or a folder; may be repeated (default: substituters of nix.conf)',
      each(String),
    )
    .option('--no-upstream', 'use no caches, only peers')
    .addOption(
      new Option('--no-deltas', 'fetch NARs whole, also where a patch of an earlier one would be sooner').default(true),
    );
  addPeers(command);
  addKeys(command);
  addShareKeys(command);
  addRequire(command);
  command
    .option(
      '--publisher-timeout <duration>',
      'time to look for hash maps (default: 10s, or 60s for a run without a cache)',
      parseTimeout,
    )
    .option(
      '--peer-timeout <duration>',
      'without a cache: time to wait for a good byte from any peer (default: 60s)',
      parseTimeout,
    );
  groupFrom(command, before, SOURCES_AND_TRUST);
  return command;
}

/** Adds the option for the number of publishers that must agree about a path. */
export function addRequire(command: Command): Command {
  return command.option(
    '--require <n>',
    'fetch a path only if the hash maps of that many publishers have it with the same NarHash (default: 1: they need not have it)',
    parseRequired,
  );
}

/** Adds the option of a command that runs in the background. */
export function addYield(command: Command): Command {
  return command
    .option('--yield', 'leave the internet line to other traffic, and be slower for it')
    .option('--no-yield', 'use the whole internet line, even if the config file says to yield');
}

/** Makes the option of a command that may run although nobody waits for it. @param rule when it avoids a metered line */
export function metered(rule: string): Option {
  return new Option('--metered <what>', `what to do on an internet line that NetworkManager calls metered: ${rule}`)
    .choices(METERED)
    .default('avoid');
}

/** Adds the option of a command that imports. */
export function addImport(command: Command): Command {
  return command.addOption(
    new Option('--import-with <way>', 'way into the Nix store: auto begins beside the download where it can')
      .choices(IMPORT_WAYS)
      .default('auto'),
  );
}

/** The sources of a fetch, from the flags and nix.conf. */
export type Sources = Pick<
  RunFetchOptions,
  | 'publishers'
  | 'require'
  | 'upstreams'
  | 'http'
  | 'keys'
  | 'shareKeys'
  | 'trustedPublicKeys'
  | 'network'
  | 'lanCaches'
  | 'neighbourWaitMs'
  | 'limits'
  | 'publisherTimeoutMs'
  | 'peerTimeoutMs'
  | 'importWith'
  | 'deltas'
>;

/** Time for neighbours to appear if there is no cache to ask. */
const ALONE_WAIT_MS = 10_000;

interface SourceContext {
  readonly output: Output;
  readonly signal: AbortSignal;
  readonly originOf: OriginOf;
  /** True if peers are used even without a hash map or a shared key to find them by. */
  readonly seeds?: boolean;
}

/**
 * Reads the flags. Reads nix.conf for those that are missing.
 *
 * @throws USAGE if the flags contradict each other; NIX_MISSING if nix.conf is needed and Nix is not installed
 */
export async function readSources(
  flags: SourceFlags,
  { output, signal, originOf, seeds = false }: SourceContext,
): Promise<Sources> {
  if (!flags.upstream && originOf('from').source === 'cli') {
    throw new NarswarmError('USAGE', '--no-upstream asks no cache and --from names one: give one of them');
  }
  const from = flags.upstream ? flags.from : [];
  const { trustedPublicKey } = flags;
  const { keys, upstreams, http } = await readTrust({ trustedPublicKey, from }, signal, (text) => output.warn(text));
  const asksMirror = flags.publisher?.some(({ baseUrl }) => baseUrl !== undefined) ?? false;
  if (asksMirror) http().catch(() => undefined); // starts Nix early; the first request reports a failure
  const shareKeys = sharedKeys(keys, flags, (text) => output.warn(text));
  const network = withNeighbours(networkOptions(flags, flags.scope ?? 'lan', originOf), shareKeys);
  const wantsPeers =
    network.scope !== 'off' && ((flags.publisher?.length ?? 0) > 0 || seeds || (network.neighbours?.length ?? 0) > 0);
  if (!wantsPeers && network.peers.length > 0)
    output.warn(
      `--peer is not asked: that takes a hash map (--publisher), or ${network.lan ? 'a trusted key in --share-keys' : 'no --no-lan'}`,
    );
  return {
    publishers: flags.publisher ?? [],
    require: flags.require,
    upstreams,
    http,
    keys,
    shareKeys,
    trustedPublicKeys: trustedPublicKey ?? [],
    network: wantsPeers ? network : undefined,
    neighbourWaitMs: upstreams.length === 0 ? ALONE_WAIT_MS : undefined,
    lanCaches:
      network.scope !== 'off' && network.lan && flags.upstream
        ? { configured: upstreams, interfaceAddress: onlyAddress(network.listen) }
        : undefined,
    limits: flags.yield === true ? limitsOf(flags).forBackground() : limitsOf(flags),
    publisherTimeoutMs: flags.publisherTimeout ?? (upstreams.length === 0 ? 60_000 : 10_000),
    peerTimeoutMs: flags.peerTimeout,
    importWith: flags.importWith,
    deltas: flags.deltas,
  };
}

/** Returns the address of the only interface to use. Undefined: all interfaces. */
export function onlyAddress(listen: string | undefined): string | undefined {
  return listen === '0.0.0.0' || listen === '::' ? undefined : listen;
}
