/** Reads and formats the values of a manifest's lines. Reading is as strict as formatting. */
import { NarswarmError } from '../../errors.ts';
import type { StorePath } from '../../nix/brands.ts';
import { quote } from '../../nix/quote.ts';
import { parseStorePath, storeDirOf } from '../../nix/store-path.ts';
import { saltFromHex } from '../address.ts';
import type { PreviousEdition } from './history.ts';
import { MAX_HOST_LENGTH, MAX_PORT, MAX_SHARD_BYTES, MAX_URL_LENGTH } from './limits.ts';
import { WHOLE_NAME } from './shard.ts';
import type { FileEntry, ShardEntry } from './shard.ts';

/** A store path that the publisher names, for example a channel or the system of a host. */
export interface Root {
  /** 1 to 128 of the characters a-z A-Z 0-9 . _ -, not beginning with a dot or a dash. Unique in a manifest. */
  readonly name: string;
  readonly path: StorePath;
}

/** A root in a manifest. */
export interface ListedRoot extends Root {
  /** The list of its shards (shard-list.ts). Undefined: its records are in the shards of their prefixes. */
  readonly list?: FileEntry;
}

const TIME_PATTERN = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
const ROOT_PATTERN = /^([a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}) (\S+)(?: (\d+) ([01][0-9a-df-np-sv-z]{51}))?$/;
const PEER_PATTERN = /^(?:[a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\]):([1-9]\d{0,4})$/;
const TRACKER_PATTERN = /^(?:udp|https?|wss?):\/\/[\x21-\x7e]+$/;
const PREVIOUS_PATTERN = /^(\d+) ([01][0-9a-df-np-sv-z]{51})$/;
const SHARD_PATTERN = /^(\S+) (\d+) ([01][0-9a-df-np-sv-z]{51})$/;
const PREFIX_PATTERN = /^[0-9a-df-np-sv-z]+$/;

/** Reads a whole decimal number, without sign or leading zeros. Throws `INDEX_INVALID`, as do all readers below. */
export function parseWhole(text: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  const number = Number(text);
  if (/^(?:0|[1-9]\d*)$/.test(text) && number >= min && number <= max) return number;
  throw malformed(text, `a whole number from ${min} to ${max}`);
}

/** Checks a version. Refuses every other one, with the way out. */
export function assertVersion(text: string, known: number): void {
  const version = parseWhole(text, 1);
  if (version > known)
    throw new NarswarmError('INDEX_INVALID', `version ${text} is newer than this narswarm knows: update narswarm`);
  if (version < known)
    throw new NarswarmError('INDEX_INVALID', `version ${text} is of an older narswarm: update it at the publisher`);
}

/**
 * Formats a time as ISO 8601 in UTC without milliseconds. Correct for the years 0 to 9999; {@link parseTime} refuses
 * others.
 */
export function formatTime(time: Date): string {
  if (Number.isNaN(time.getTime())) throw malformed(String(time), 'a time');
  return `${time.toISOString().slice(0, 19)}Z`;
}

/** Reads ISO 8601 in UTC, to the second. Refuses days that do not exist. */
export function parseTime(text: string): Date {
  const time = new Date(text);
  const isTime = TIME_PATTERN.test(text) && !Number.isNaN(time.getTime()) && formatTime(time) === text;
  if (!isTime) throw malformed(text, 'a time such as 2026-01-31T03:00:00Z');
  return time;
}

/** Reads a salt in hex. */
export function parseSalt(text: string): string {
  const salt = saltFromHex(text);
  if (salt === undefined) throw malformed(text, 'the hex of a salt');
  return salt;
}

/** Formats `<name> <store path>`, then the size and the SHA-256 of the root's list if it has one. */
export function formatRoot({ name, path, list }: ListedRoot): string {
  return list === undefined ? `${name} ${path}` : `${name} ${path} ${list.sizeBytes} ${list.sha256}`;
}

/** Reads the output of {@link formatRoot}. The path must be in this store directory. */
export function parseRoot(text: string, storeDir: string): ListedRoot {
  const [, name, path, size, sha256] = ROOT_PATTERN.exec(text) ?? [];
  if (name === undefined || path === undefined) throw malformed(text, 'a name (a-z A-Z 0-9 . _ -) and a store path');
  const root = { name, path: parseStorePath(path) };
  if (storeDirOf(root.path) !== storeDir) throw malformed(text, `a store path in ${storeDir}`);
  if (size === undefined || sha256 === undefined) return root;
  return { ...root, list: { sizeBytes: parseWhole(size, 1, MAX_SHARD_BYTES), sha256 } };
}

/** Reads `<seq> <sha256 in nix32>` of an earlier edition. */
export function parsePrevious(text: string): PreviousEdition {
  const [, seq, sha256] = PREVIOUS_PATTERN.exec(text) ?? [];
  if (seq === undefined || sha256 === undefined) throw malformed(text, 'the number and the SHA-256 of an edition');
  return { seq: parseWhole(seq, 1), sha256 };
}

/** Reads `<host>:<port>`, with an IPv6 address in brackets. */
export function parsePeer(text: string): string {
  const port = Number(PEER_PATTERN.exec(text)?.[1] ?? Number.NaN);
  if (port <= MAX_PORT && text.lastIndexOf(':') <= MAX_HOST_LENGTH) return text;
  throw malformed(text, '<host>:<port>');
}

/** Reads the URL of a tracker. */
export function parseTracker(text: string): string {
  if (text.length <= MAX_URL_LENGTH && TRACKER_PATTERN.test(text) && URL.canParse(text)) return text;
  throw malformed(text, 'the URL of a tracker (udp, http, https, ws or wss)');
}

/** Formats `<prefix> <bytes> <sha256>`, with `all` for the empty prefix. */
export function formatShard({ prefix, sizeBytes, sha256 }: ShardEntry): string {
  return `${prefix === '' ? WHOLE_NAME : prefix} ${sizeBytes} ${sha256}`;
}

/** Reads the output of {@link formatShard}, with a prefix of this length. */
export function parseShard(text: string, prefixLength: number): ShardEntry {
  const [, name, size, sha256] = SHARD_PATTERN.exec(text) ?? [];
  if (name === undefined || size === undefined || sha256 === undefined) {
    throw malformed(text, '<prefix> <bytes> <sha256 in nix32>');
  }
  const fits = prefixLength === 0 ? name === WHOLE_NAME : name.length === prefixLength && PREFIX_PATTERN.test(name);
  if (!fits) throw malformed(name, prefixLength === 0 ? WHOLE_NAME : `a prefix of ${prefixLength} nix32 characters`);
  return { prefix: prefixLength === 0 ? '' : name, sizeBytes: parseWhole(size, 1, MAX_SHARD_BYTES), sha256 };
}

function malformed(text: string, expected: string): NarswarmError {
  return new NarswarmError('INDEX_INVALID', `${quote(text)} is not ${expected}`);
}
