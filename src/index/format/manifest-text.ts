/**
 * The text of a manifest without its signature: `Key: value` lines as in a narinfo, so that people can read it.
 *
 *     Narswarm: 1
 *     Salt: 6465736b746f70
 *     PieceLengthVersion: 1
 *     Seq: 42
 *     Created: 2026-01-31T03:00:00Z
 *     Expires: 2026-02-14T03:00:00Z
 *     StoreDir: /nix/store
 *     Root: desktop /nix/store/<hash>-nixos-system-desktop 912 <sha256 of the list of its shards in nix32>
 *     Peer: seeder.example.org:6881
 *     PeerPort: 16277
 *     Tracker: udp://tracker.example.org:6969
 *     Previous: 41 <sha256 of its manifest in nix32>
 *     Records: 12396
 *     PrefixLength: 1
 *     Shard: 0 137204 <sha256 in nix32>
 *     PublicKey: <64 hex characters>
 *
 * Root, Peer, Tracker, Previous and Shard may repeat, with another value each time. PeerPort is optional. Readers skip unknown
 * keys, so that later versions can add some. A change that old readers would misunderstand raises the version.
 */
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import { quote } from '../../nix/quote.ts';
import { parseStoreDir } from '../../nix/store-path.ts';
import { PIECE_LENGTH_VERSION } from '../../torrent/canonical.ts';
import { saltBytes } from '../address.ts';
import { MAX_PREVIOUS, type PreviousEdition } from './history.ts';
import * as values from './manifest-values.ts';
import type { ListedRoot } from './manifest-values.ts';
import { MAX_PEERS, MAX_PORT, MAX_RECORDS, MAX_ROOTS, MAX_TRACKERS, MAX_VALID_FOR_MS } from './limits.ts';
import { MAX_PREFIX_LENGTH } from './shard.ts';
import type { ShardEntry } from './shard.ts';

/** One edition of a hash map. */
export interface Manifest {
  /** The name of the hash map among those of its publisher. */
  readonly salt: string;
  /** Increases with each edition: the `seq` of BEP 44. At least 1. */
  readonly seq: number;
  /** Time of signing, to the second. */
  readonly created: Date;
  /** Time from which the manifest is no longer valid, to the second. Later than `created`. */
  readonly expires: Date;
  /** The directory of all its store paths. */
  readonly storeDir: string;
  readonly roots: readonly ListedRoot[];
  /** `host:port` of cohort members that should be asked first: hints. */
  readonly peers: readonly string[];
  /**
   * TCP port for peers of the signer: a hint without an address, which may be private. It applies to those who got the
   * manifest from a mirror on the same host.
   */
  readonly peerPort?: number | undefined;
  /** URLs of the cohort's trackers: hints. */
  readonly trackers: readonly string[];
  /** The editions before this one, the newest first: see `history.ts`. Undefined if it is the first. */
  readonly previous?: readonly PreviousEdition[] | undefined;
  readonly recordCount: number;
  /** Characters of the store hash in a shard's name: 0 to {@link MAX_PREFIX_LENGTH}. */
  readonly prefixLength: number;
  /**
   * Shards in the order of their prefixes, for prefixes of at most one character. For longer ones, a list of shards for
   * each first character (shard-list.ts). Shards without records are left out.
   */
  readonly shards: readonly ShardEntry[];
}

const FORMAT_VERSION = 1;
// oxlint-disable-next-line no-control-regex -- control characters are refused here
const CONTROL_CHARACTER = /[\x00-\x1f\x7f]/;

/**
 * Writes the lines of a manifest, each with a line end. Refuses only values that would break their line; {@link
 * parseManifestText} checks the rest.
 *
 * @throws NarswarmError `INDEX_INVALID`, or `ADDRESS_INVALID` for a salt that BEP 44 does not allow.
 */
export function formatManifestText(manifest: Manifest, publicKey: Uint8Array): string {
  const lines: (readonly [key: string, value: string | number])[] = [
    ['Narswarm', FORMAT_VERSION],
    ['Salt', saltBytes(manifest.salt).toString('hex')],
    ['PieceLengthVersion', PIECE_LENGTH_VERSION],
    ['Seq', manifest.seq],
    ['Created', values.formatTime(manifest.created)],
    ['Expires', values.formatTime(manifest.expires)],
    ['StoreDir', manifest.storeDir],
    ...manifest.roots.map((root) => ['Root', values.formatRoot(root)] as const),
    ...manifest.peers.map((peer) => ['Peer', peer] as const),
    ...(manifest.peerPort === undefined ? [] : [['PeerPort', manifest.peerPort] as const]),
    ...manifest.trackers.map((tracker) => ['Tracker', tracker] as const),
    ...(manifest.previous ?? []).map(({ seq, sha256 }) => ['Previous', `${seq} ${sha256}`] as const),
    ['Records', manifest.recordCount],
    ['PrefixLength', manifest.prefixLength],
    ...manifest.shards.map((shard) => ['Shard', values.formatShard(shard)] as const),
    ['PublicKey', Buffer.from(publicKey).toString('hex')],
  ];
  const broken = lines.find(([, value]) => CONTROL_CHARACTER.test(String(value)));
  if (broken !== undefined) throw invalid(`${broken[0]}: ${quote(String(broken[1]))} does not fit in a line`);
  return lines.map(([key, value]) => `${key}: ${value}\n`).join('');
}

/**
 * Reads the output of {@link formatManifestText}. Checks neither the owner of `PublicKey` nor the time.
 *
 * @throws NarswarmError `INDEX_INVALID` and nothing else, with the reason. For a format or a piece length of another
 *   version, the reason says where narswarm needs an update.
 */
export function parseManifestText(text: string): { readonly manifest: Manifest; readonly publicKeyHex: string } {
  const fields = splitLines(text);
  const all = <Value>(key: string, parse: (value: string) => Value, most: number): Value[] => {
    const found = fields.get(key) ?? [];
    if (new Set(found).size < found.length) throw invalid(`it repeats a ${key}`);
    if (found.length > most) throw invalid(`it has ${found.length} lines of ${key}, more than ${most}`);
    return found.map((value) => parseField(key, value, parse));
  };
  const atMostOne = <Value>(key: string, parse: (value: string) => Value): Value | undefined =>
    fields.has(key) ? only(key, parse) : undefined;
  const only = <Value>(key: string, parse: (value: string) => Value): Value => {
    const [value, second] = fields.get(key) ?? [];
    if (value === undefined) throw invalid(`${key} is missing`);
    if (second !== undefined) throw invalid(`it has a second ${key}`);
    return parseField(key, value, parse);
  };

  only('Narswarm', (value) => values.assertVersion(value, FORMAT_VERSION));
  only('PieceLengthVersion', (value) => values.assertVersion(value, PIECE_LENGTH_VERSION));
  const storeDir = only('StoreDir', parseStoreDir);
  const prefixLength = only('PrefixLength', (value) => values.parseWhole(value, 0, MAX_PREFIX_LENGTH));
  const listedLength = Math.min(prefixLength, 1);
  const peerPort = atMostOne('PeerPort', (value) => values.parseWhole(value, 1, MAX_PORT));
  const previous = all('Previous', values.parsePrevious, MAX_PREVIOUS);
  const manifest = {
    salt: only('Salt', values.parseSalt),
    seq: only('Seq', (value) => values.parseWhole(value, 1)),
    created: only('Created', values.parseTime),
    expires: only('Expires', values.parseTime),
    storeDir,
    roots: all('Root', (value) => values.parseRoot(value, storeDir), MAX_ROOTS),
    peers: all('Peer', values.parsePeer, MAX_PEERS),
    ...(peerPort === undefined ? {} : { peerPort }),
    trackers: all('Tracker', values.parseTracker, MAX_TRACKERS),
    ...(previous.length === 0 ? {} : { previous }),
    recordCount: only('Records', (value) => values.parseWhole(value, 0, MAX_RECORDS)),
    prefixLength,
    shards: all('Shard', (value) => values.parseShard(value, listedLength), 32 ** listedLength),
  };
  assertConsistent(manifest);
  return { manifest, publicKeyHex: only('PublicKey', String) };
}

function assertConsistent({ seq, previous = [], roots, shards, created, expires }: Manifest): void {
  if (previous.some((edition, index) => edition.seq >= (previous[index - 1]?.seq ?? seq)))
    throw invalid('its previous editions are not in order');
  if (expires <= created) throw invalid('it expires before it was created');
  if (expires.getTime() - created.getTime() > MAX_VALID_FOR_MS)
    throw invalid(`it is valid until ${values.formatTime(expires)}, more than ten years`);
  if (new Set(roots.map(({ name }) => name)).size < roots.length) throw invalid('two roots have the same name');
  for (const [index, { prefix }] of shards.entries()) {
    const before = shards[index - 1]?.prefix;
    if (before !== undefined && prefix <= before) throw invalid(`shard ${prefix} is repeated or not in order`);
  }
}

function splitLines(text: string): Map<string, string[]> {
  if (!text.endsWith('\n')) throw invalid('its last line has no end');
  const fields = new Map<string, string[]>();
  for (const line of text.slice(0, -1).split('\n')) {
    const [, key, value] = /^([^:\s]+): (.*)$/.exec(line) ?? [];
    if (key === undefined || value === undefined || CONTROL_CHARACTER.test(line)) {
      throw invalid(`expected "Key: value", got ${quote(line)}`);
    }
    const found = fields.get(key);
    if (found === undefined) fields.set(key, [value]);
    else found.push(value);
  }
  return fields;
}

function parseField<Value>(key: string, value: string, parse: (value: string) => Value): Value {
  try {
    return parse(value);
  } catch (error) {
    if (isNarswarmError(error)) throw invalid(`${key}: ${error.message}`, { cause: error });
    throw error;
  }
}

function invalid(reason: string, options: { cause?: unknown } = {}): NarswarmError {
  return new NarswarmError('INDEX_INVALID', `not a manifest that narswarm can use: ${reason}`, options);
}
