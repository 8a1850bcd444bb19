/**
 * The keys of the config file, with the same names as the long options; `NARSWARM_*` variables have them in capitals.
 * This one table keeps the file, the environment, `narswarm config`, the example and nix/options.json consistent.
 */
import { NarswarmError } from '../errors.ts';
import { parseUpstream } from '../http/upstream.ts';
import { parsePublisherAddress, saltBytes } from '../index/address.ts';
import { parsePublicKey } from '../nix/signature.ts';
import { parseRates } from './rates.ts';
import { parseEndpoint } from '../discovery/endpoint.ts';
import { parseSubnet } from '../discovery/subnet.ts';
import { SCOPES, type Scope } from '../discovery/scope.ts';
import { defaultPortInWords, SERVICE_PORTS, SUBSTITUTER_PORT } from '../wire/ports.ts';
import { IMPORT_WAYS, type ImportWay } from '../nix/programs/import-way.ts';
import { DEFAULT_SHARE_KEYS, parseShareKey } from '../serve/share-keys.ts';
import { KEPT_OF_IMPORTED } from '../subscription/room/kept-of-imported.ts';
import { METERED } from '../subscription/update/metered.ts';
import { LOG_FORMATS, LOG_LEVELS } from './log-levels.ts';
import { defaultKeyFile, defaultStoreDir } from './locations.ts';
import {
  checkAddress,
  checkTimeOfDay,
  parseBudget,
  parseCount,
  parseLifetime,
  parsePort,
  parseRequired,
  parseTimeout,
} from './units.ts';
import { parseRecompression } from './zstd-level.ts';

/**
 * The form of a value: `path` is absolute, `number` needs no quotes, `list` is one string or a list of strings, `flag`
 * is true or false, `schedule` is a list whose items may also stand in one string, with commas.
 */
export type Shape = 'text' | 'path' | 'number' | 'list' | 'flag' | 'schedule';

interface Key {
  readonly shape: Shape;
  /** Reads the value, or one item of a list. Throws a NarswarmError that names the expected form. */
  readonly parse: (text: string) => unknown;
  /** Name of the value in help. Empty for a flag. */
  readonly placeholder: string;
  readonly description: string;
  /** The default, as shown in help. */
  readonly initial: () => string;
}

export const KEYS = {
  store: {
    shape: 'path',
    parse: notEmpty,
    placeholder: 'dir',
    description: 'file store to keep the NARs in',
    initial: () => defaultStoreDir(),
  },
  from: {
    shape: 'list',
    parse: checked(parseUpstream),
    placeholder: 'url',
    description: 'binary cache for NARs that peers do not have: an http(s) URL or a folder',
    initial: () => 'substituters of nix.conf',
  },
  publisher: {
    shape: 'list',
    parse: parsePublisherAddress,
    placeholder: 'address',
    description: 'hash map to follow',
    initial: () => 'none',
  },
  require: {
    shape: 'number',
    parse: parseRequired,
    placeholder: 'n',
    description: 'publishers whose hash maps must have a path with the same NarHash before it is fetched',
    initial: () => '1: they need not have it at all',
  },
  'trusted-public-key': {
    shape: 'list',
    parse: checked(parsePublicKey),
    placeholder: 'key',
    description: 'Nix key to trust, NAME:BASE64',
    initial: () => 'trusted-public-keys of nix.conf',
  },
  'share-keys': {
    shape: 'list',
    parse: parseShareKey,
    placeholder: 'key',
    description: 'trusted key whose NARs are given to others, by its name or NAME:BASE64',
    initial: () => DEFAULT_SHARE_KEYS.join(' '),
  },
  scope: {
    shape: 'text',
    parse: parseScope,
    placeholder: 'scope',
    description: `who learns which NARs this machine has: ${SCOPES.join(', ')}`,
    initial: () => 'lan',
  },
  listen: {
    shape: 'text',
    parse: (text) => checkAddress(notEmpty(text)),
    placeholder: 'address',
    description: 'address to listen on, TCP and UDP',
    initial: () => 'all',
  },
  port: {
    shape: 'number',
    parse: parsePort,
    placeholder: 'port',
    description: 'TCP port for peers of daemon and publish; 0 picks one',
    initial: () => defaultPortInWords(SERVICE_PORTS.peers),
  },
  'dht-port': {
    shape: 'number',
    parse: parsePort,
    placeholder: 'port',
    description: 'UDP port of the DHT node of daemon and publish; 0 picks one',
    initial: () => defaultPortInWords(SERVICE_PORTS.dht),
  },
  'map-port': {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description:
      'with scope cohort or public: let daemon and publish have the router map their ports to this machine (NAT-PMP, UPnP)',
    initial: () => 'false',
  },
  'dht-bootstrap': {
    shape: 'list',
    parse: parseEndpoint,
    placeholder: 'host:port',
    description: 'DHT node to join by, instead of the public ones',
    initial: () => 'public nodes',
  },
  dht: { shape: 'flag', parse: parseFlag, placeholder: '', description: 'use the DHT', initial: () => 'true' },
  lan: {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description: 'look for peers on the local network',
    initial: () => 'true',
  },
  'lan-networks': {
    shape: 'list',
    parse: parseSubnet,
    placeholder: 'cidr',
    description: 'network that counts as local, besides those of the interfaces, such as 10.20.0.0/16',
    initial: () => 'none',
  },
  peer: {
    shape: 'list',
    parse: parseEndpoint,
    placeholder: 'host:port',
    description: 'peer to ask before any other',
    initial: () => 'none',
  },
  'max-download-rate': {
    shape: 'schedule',
    parse: parseRates,
    placeholder: 'rates',
    description: 'limit for all downloads, such as 10MB/s, or by the time of day: 5MB/s, 22:00-06:00 unlimited',
    initial: () => 'none',
  },
  'max-upload-rate': {
    shape: 'schedule',
    parse: parseRates,
    placeholder: 'rates',
    description: 'limit for all uploads, likewise',
    initial: () => 'none',
  },
  'max-wan-download-rate': {
    shape: 'schedule',
    parse: parseRates,
    placeholder: 'rates',
    description: 'limit for downloads from beyond the local network, likewise',
    initial: () => 'none',
  },
  'max-wan-upload-rate': {
    shape: 'schedule',
    parse: parseRates,
    placeholder: 'rates',
    description: 'limit for uploads beyond the local network, likewise',
    initial: () => 'none',
  },
  yield: {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description: 'let update, and the mirrors of daemon, leave the internet line to other traffic',
    initial: () => 'false',
  },
  metered: {
    shape: 'text',
    parse: (text) => parseOneOf(METERED, text),
    placeholder: 'what',
    description:
      'on a line that NetworkManager calls metered: avoid lets updates that are not started at a terminal, and the mirrors of daemon, wait for another line',
    initial: () => 'avoid',
  },
  'publisher-timeout': {
    shape: 'text',
    parse: parseTimeout,
    placeholder: 'duration',
    description: 'time to look for hash maps',
    initial: () => '10s, or 60s for a run without a cache',
  },
  'peer-timeout': {
    shape: 'text',
    parse: parseTimeout,
    placeholder: 'duration',
    description: 'without a cache: time to wait for a good byte from any peer',
    initial: () => '60s',
  },
  'max-size': {
    shape: 'number',
    parse: parseBudget,
    placeholder: 'size',
    description: 'limit for the size of the file store, such as 50G',
    initial: () => 'no limit, but 10 GB, or a tenth of the free space, for NARs that only Nix asked the daemon for',
  },
  deltas: {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description: 'make NARs out of earlier ones by the patches of a publisher, where that is sooner',
    initial: () => 'true',
  },
  'import-with': {
    shape: 'text',
    parse: parseImportWay,
    placeholder: 'way',
    description: 'way into the Nix store: auto begins beside the download where it can, nix-copy waits for its end',
    initial: () => 'auto',
  },
  'keep-imported': {
    shape: 'text',
    parse: (text) => parseOneOf(KEPT_OF_IMPORTED, text),
    placeholder: 'what',
    description:
      'what the file store keeps of NARs that the Nix store of this machine has, too: compressed (until max-size needs the space), or recipe: they are given to neighbours from the Nix store',
    initial: () => 'compressed',
  },
  'keep-different': {
    shape: 'number',
    parse: parseBudget,
    placeholder: 'size',
    description:
      'limit for NARs that update keeps of paths that publishers have built differently (with require), such as 2G; status tells how to compare them',
    initial: () => '0: none are kept',
  },
  'keep-generations': {
    shape: 'number',
    parse: parseCount,
    placeholder: 'number',
    description: 'complete generations of each subscription to keep, besides the newest one',
    initial: () => '1',
  },
  until: {
    shape: 'text',
    parse: checkTimeOfDay,
    placeholder: 'time',
    description: 'time of day at which an update stops, such as 06:00; the next one continues from there',
    initial: () => 'no limit',
  },
  'log-level': {
    shape: 'text',
    parse: (text) => parseOneOf(LOG_LEVELS, text),
    placeholder: 'level',
    description: `least important lines that daemon and publish write: ${LOG_LEVELS.join(', ')}`,
    initial: () => 'info',
  },
  'log-format': {
    shape: 'text',
    parse: (text) => parseOneOf(LOG_FORMATS, text),
    placeholder: 'format',
    description: 'form of the log of daemon and publish: text, or json for one JSON object a line on stderr',
    initial: () => 'text',
  },
  'on-complete': {
    shape: 'text',
    parse: notEmpty,
    placeholder: 'command',
    description: 'shell command that update runs when a subscription has new paths and is complete',
    initial: () => 'none',
  },
  publish: {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description: 'let update and daemon publish this machine’s own hash map',
    initial: () => 'false',
  },
  key: {
    shape: 'path',
    parse: notEmpty,
    placeholder: 'file',
    description: 'key that signs this machine’s own hash map',
    initial: () => defaultKeyFile(),
  },
  salt: {
    shape: 'text',
    parse: checked(saltBytes),
    placeholder: 'name',
    description: 'name of the hash map: one key can sign several',
    initial: () => 'none',
  },
  'http-port': {
    shape: 'number',
    parse: parsePort,
    placeholder: 'port',
    description: 'TCP port on which publish and daemon serve the hash map and its patches over HTTP; 0 picks one',
    initial: () => defaultPortInWords(SERVICE_PORTS.http),
  },
  substituter: {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description: 'let daemon serve the file store to Nix as a substituter that fetches ahead',
    initial: () => 'true',
  },
  'substituter-listen': {
    shape: 'list',
    parse: checkAddress,
    placeholder: 'address',
    description: 'address of the substituter and of the status page; others than loopback get only what is shared',
    initial: () => '127.0.0.1 and ::1',
  },
  'substituter-name': {
    shape: 'list',
    parse: notEmpty,
    placeholder: 'name',
    description: 'another name of this machine, under which Nix and browsers may ask the HTTP port',
    initial: () => 'none',
  },
  'substituter-port': {
    shape: 'number',
    parse: parsePort,
    placeholder: 'port',
    description: 'TCP port of the substituter and of the status page',
    initial: () => String(SUBSTITUTER_PORT),
  },
  'open-status': {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description: 'let other machines read the status page, /health and /metrics of daemon, too',
    initial: () => 'false',
  },
  hint: {
    shape: 'list',
    parse: parseEndpoint,
    placeholder: 'host:port',
    description: 'peer to name in the hash map, such as this machine’s public address',
    initial: () => 'none',
  },
  recompress: {
    shape: 'text',
    parse: parseRecompression,
    placeholder: 'method',
    description: 'let publish and update make zstd files of the NARs that they publish: zstd or zstd:LEVEL',
    initial: () => 'none',
  },
  'make-deltas': {
    shape: 'flag',
    parse: parseFlag,
    placeholder: '',
    description: 'let publish and update make patches between the NARs of an edition and those of the editions before',
    initial: () => 'false',
  },
  'valid-for': {
    shape: 'text',
    parse: parseLifetime,
    placeholder: 'duration',
    description: 'how long followers may rely on the hash map without a newer one',
    initial: () => '14d',
  },
} as const satisfies Record<string, Key>;

export type ConfigKey = keyof typeof KEYS;
export const CONFIG_KEYS: readonly ConfigKey[] = Object.keys(KEYS) as ConfigKey[];

/** A value as written: a list of texts, true or false, or one text. */
export type Written = string | readonly string[] | boolean;

/** The parsed value of a key. */
export type ValueOf<K extends ConfigKey> = (typeof KEYS)[K]['shape'] extends 'flag'
  ? boolean
  : (typeof KEYS)[K]['shape'] extends 'list'
    ? readonly ReturnType<(typeof KEYS)[K]['parse']>[]
    : ReturnType<(typeof KEYS)[K]['parse']>;

/** Returns true for the names in {@link KEYS}. */
export function isConfigKey(name: string): name is ConfigKey {
  return Object.hasOwn(KEYS, name);
}

function parseImportWay(text: string): ImportWay {
  return parseOneOf(IMPORT_WAYS, text);
}

function parseScope(text: string): Scope {
  return parseOneOf(SCOPES, text);
}

function parseOneOf<T extends string>(names: readonly T[], text: string): T {
  const found = names.find((name) => name === text);
  if (found === undefined) throw new NarswarmError('USAGE', `Expected one of ${names.join(', ')}.`);
  return found;
}

/** Reads true or false from the environment, which has only text. A config file has its own booleans. */
function parseFlag(text: string): boolean {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw new NarswarmError('USAGE', 'Expected true, false, 1 or 0.');
}

function notEmpty(text: string): string {
  if (text === '') throw new NarswarmError('USAGE', 'Expected a value, but it is empty.');
  return text;
}

function checked(parse: (text: string) => unknown): (text: string) => string {
  return (text) => {
    parse(text);
    return text;
  };
}
