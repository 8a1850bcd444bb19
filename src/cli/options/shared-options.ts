import { Option, type Command } from 'commander';
import { EXIT_STATUSES, NarswarmError } from '../../errors.ts';
import { parsePublisherAddress } from '../../index/address.ts';
import { parseEndpoint, type Endpoint } from '../../discovery/endpoint.ts';
import { aside, isStronger, type Origin, type OriginOf } from './configuration.ts';
import { parseSubnet, type Subnet } from '../../discovery/subnet.ts';
import { neighboursInfoHash } from '../../discovery/neighbours.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { chooseShareKeys, DEFAULT_SHARE_KEYS, parseShareKey } from '../../serve/share-keys.ts';
import type { NetworkOptions } from '../../swarm/network.ts';
import { SCOPES, type Scope } from '../../discovery/scope.ts';
import { defaultPortInWords, RUN_PORTS, type DefaultPorts } from '../../wire/ports.ts';
import { LOG_FORMATS, LOG_LEVELS } from '../../config/log-levels.ts';
import { fittedExamples, rememberExamples } from './examples.ts';
import { fitted } from '../words/fitting.ts';
import { groupFrom, NETWORK, RATE_LIMITS } from './option-groups.ts';
import type { RateSchedule } from '../../bytes/rate-schedule.ts';
import { RateLimits } from '../../bytes/rate-limits.ts';
import { LocalNetworks } from '../../discovery/local-networks.ts';
import { NearHosts } from '../../discovery/near-hosts.ts';
import { each, parseAddress, parsePort, parseRates } from '../words/values.ts';

export { defaultStoreDir } from '../../config/locations.ts';

/** Width of a help that is not printed on a terminal, as commander has it. */
const HELP_COLUMNS = 80;

/** Adds `--json` and `--quiet`, the examples and the exit statuses to a command's help. */
export function addCommon(
  command: Command,
  examples: readonly string[],
  statuses: readonly (keyof typeof EXIT_STATUSES)[],
): Command {
  const kinds = ['OK', 'USAGE', ...statuses, 'INTERNAL'] as const;
  const meanings = kinds.map((kind) => EXIT_STATUSES[kind]).toSorted(([status], [other]) => status - other);
  rememberExamples(command, examples);
  return command
    .option('--json', 'print one JSON object per line on stdout')
    .option('-q, --quiet', 'print results and warnings only')
    .addHelpText('after', () => {
      const columns = process.stdout.isTTY ? process.stdout.columns : HELP_COLUMNS;
      return `\nExamples:\n${fittedExamples(examples, columns)}\n\nExit status:\n${fittedStatuses(meanings, columns)}`;
    });
}

/** Returns exit statuses with their meanings, one a line. */
function fittedStatuses(meanings: readonly (readonly [status: number, meaning: string])[], columns: number): string {
  const lines = meanings.map(([status, meaning]) => `  ${String(status).padStart(3)}  ${meaning}`);
  return fitted(lines.join('\n'), columns, () => 7);
}

/** Options of every command that talks to peers, as commander gives them. */
export interface NetworkFlags extends RateFlags {
  readonly listen?: string;
  readonly port?: number;
  readonly dhtPort?: number;
  readonly dhtBootstrap?: readonly Endpoint[];
  readonly dht: boolean;
  readonly lan: boolean;
  readonly lanNetworks?: readonly Subnet[];
  readonly scope?: Scope;
  readonly peer?: readonly Endpoint[];
  readonly shareKeys?: readonly string[];
  /** Only for `update` and `daemon`. */
  readonly publish?: boolean;
}

/** Adds the options of a command that talks to peers. */
export function addNetwork(
  command: Command,
  { scope, ports = RUN_PORTS }: { readonly scope?: Scope; readonly ports?: DefaultPorts },
): Command {
  const before = command.options.length;
  command
    .option('--listen <address>', 'address to listen on, TCP and UDP (default: all)', parseAddress)
    .option('--port <port>', `TCP port for peers; 0 picks one (default: ${defaultPortInWords(ports.peers)})`, parsePort)
    .option(
      '--dht-port <port>',
      `UDP port of the DHT node; 0 picks one (default: ${defaultPortInWords(ports.dht)})`,
      parsePort,
    )
    .option(
      '--dht-bootstrap <host:port>',
      'DHT node to join by, instead of the public ones; may be repeated',
      each(parseEndpoint),
    )
    .addOption(new Option('--no-dht', 'do not use the DHT').default(true))
    .addOption(new Option('--dht', 'use the DHT, even if the config file says not to'))
    .addOption(new Option('--no-lan', 'do not look for peers on the local network').default(true))
    .addOption(new Option('--lan', 'look for peers on the local network, even if the config file says not to'))
    .option(
      '--lan-networks <cidr>',
      'network that counts as local, besides those of the interfaces, such as 10.20.0.0/16; may be repeated',
      each(parseSubnet),
    );
  addRates(command);
  if (scope !== undefined) {
    command.addOption(
      new Option(
        '--scope <scope>',
        'who learns which NARs this machine has: off (no peers), lan (the local network), cohort (announced in the DHT), public (single NARs announced, too)',
      )
        .choices(SCOPES)
        .default(scope),
    );
  }
  groupFrom(command, before, NETWORK);
  return command;
}

/** Adds the options for the log of a service. */
export function addLogging(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--log-level <level>',
        'least important lines to write: debug tells of each member (default: info)',
      ).choices(LOG_LEVELS),
    )
    .addOption(
      new Option(
        '--log-format <format>',
        'text, or json: everything is written to stderr, one JSON object a line (default: text)',
      ).choices(LOG_FORMATS),
    );
}

/** Adds `--peer`. */
export function addPeers(command: Command, description = 'peer to ask before any other'): Command {
  return command.option('--peer <host:port>', `${description}; may be repeated`, each(parseEndpoint));
}

/** Adds `--trusted-public-key`. */
export function addKeys(command: Command): Command {
  return command.option(
    '--trusted-public-key <key>',
    'Nix key to trust, NAME:BASE64; may be repeated (default: those of nix.conf)',
    each(String), // parsed later: commander prints a refused value, which may be a secret key
  );
}

/** Adds `--share-keys`. */
export function addShareKeys(command: Command): Command {
  return command.option(
    '--share-keys <key>',
    `trusted key whose NARs are given to others, by its name or NAME:BASE64; may be repeated (default: ${DEFAULT_SHARE_KEYS.join(' ')})`,
    each(parseShareKey),
  );
}

/** Adds `--publisher`. */
export function addPublishers(command: Command, description: string): Command {
  return command.option('--publisher <address>', description, each(parsePublisherAddress));
}

/** Rate limits, as commander gives them. */
export interface RateFlags {
  readonly maxDownloadRate?: RateSchedule;
  readonly maxUploadRate?: RateSchedule;
  readonly maxWanDownloadRate?: RateSchedule;
  readonly maxWanUploadRate?: RateSchedule;
}

/** Adds the rate limits, such as `--max-download-rate`. */
function addRates(command: Command): Command {
  const before = command.options.length;
  command
    .option(
      '--max-download-rate <rates>',
      'limit for all downloads: 10MB/s, or by the time of day "5MB/s, 22:00-06:00 unlimited" (default: none)',
      parseRates,
    )
    .option('--max-upload-rate <rates>', 'limit for all uploads, likewise (default: none)', parseRates)
    .option(
      '--max-wan-download-rate <rates>',
      'limit for downloads from beyond the local network, likewise (default: none)',
      parseRates,
    )
    .option(
      '--max-wan-upload-rate <rates>',
      'limit for uploads beyond the local network, likewise (default: none)',
      parseRates,
    );
  groupFrom(command, before, RATE_LIMITS);
  return command;
}

/** Makes the rate limits that the options set. They hold for the whole process. */
export function limitsOf(flags: RateFlags & Pick<NetworkFlags, 'lanNetworks'>): RateLimits {
  const near = new NearHosts(new LocalNetworks(undefined, flags.lanNetworks));
  const rates = {
    download: flags.maxDownloadRate,
    upload: flags.maxUploadRate,
    wanDownload: flags.maxWanDownloadRate,
    wanUpload: flags.maxWanUploadRate,
  };
  return new RateLimits(rates, (host) => near.includes(host));
}

/** Returns the trusted keys whose NARs are given to others. Warns of each given name that no trusted key has. */
export function sharedKeys(
  trusted: readonly PublicKey[],
  flags: Pick<NetworkFlags, 'shareKeys'>,
  warn: (text: string) => void,
): readonly PublicKey[] {
  const { keys, unknown } = chooseShareKeys(trusted, flags.shareKeys ?? DEFAULT_SHARE_KEYS);
  if (flags.shareKeys !== undefined)
    for (const text of unknown) warn(`--share-keys ${text} names no trusted key, so nothing is shared for it`);
  return keys;
}

/**
 * Makes the network options from the flags. If a flag contradicts the config file, it wins if it means less talk:
 * `--no-dht` over a scope that announces, `--scope off` over peers.
 *
 * @param originOf returns the origin of a value. Default: all values count as flags
 * @param ports ports to listen on if the flags name none
 * @throws USAGE if the flags contradict each other in another way
 */
export function networkOptions(
  flags: NetworkFlags,
  scope: Scope,
  originOf: OriginOf = asFlag,
  ports: DefaultPorts = RUN_PORTS,
): NetworkOptions {
  const announces = scope === 'cohort' || scope === 'public';
  const from = originOf('scope');
  if (announces && flags.scope !== undefined && !flags.dht && !isStronger(originOf('dht'), from)) {
    throw new NarswarmError(
      'USAGE',
      `--scope ${scope}${aside(from)} announces in the DHT and --no-dht${aside(originOf('dht'))} forbids it: give ${isFlag(originOf('dht')) ? 'one of them' : '--dht, or another --scope'}`,
    );
  }
  if (scope === 'off' && (flags.peer?.length ?? 0) > 0 && !isStronger(from, originOf('peer'))) {
    throw new NarswarmError(
      'USAGE',
      `--scope off${aside(from)} talks to no peers and --peer${aside(originOf('peer'))} names one: give ${isFlag(from) ? 'one of them' : 'another --scope, or no --peer'}`,
    );
  }
  // As a flag, --publish is for one update only: a daemon may serve the map that it signs.
  if (scope === 'off' && flags.publish === true && !isFlag(from)) {
    throw new NarswarmError(
      'USAGE',
      `--scope off${aside(from)} serves nobody and --publish${aside(originOf('publish'))} signs a hash map for others: give lan, cohort or public, or do not publish`,
    );
  }
  return {
    scope,
    listen: flags.listen,
    ports: flags.port === undefined ? ports.peers : [flags.port],
    dht: flags.dht,
    dhtPorts: flags.dhtPort === undefined ? ports.dht : [flags.dhtPort],
    dhtBootstrap: flags.dhtBootstrap,
    lan: flags.lan,
    lanNetworks: flags.lanNetworks,
    peers: scope === 'off' ? [] : (flags.peer ?? []),
  };
}

/** Adds the groups of neighbours that share one of these keys, unless the options turn neighbours off. */
export function withNeighbours(network: NetworkOptions, shareKeys: readonly PublicKey[]): NetworkOptions {
  const isWanted = network.lan && network.scope !== 'off';
  return { ...network, neighbours: isWanted ? shareKeys.map(neighboursInfoHash) : [] };
}

const isFlag = ({ source }: Origin): boolean => source === 'cli';
const asFlag: OriginOf = () => ({ source: 'cli', where: '' });
