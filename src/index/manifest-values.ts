/** The values in a manifest's lines, each read as strictly as it is written. */
import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { quote } from '../nix/quote.ts';
import { parseStorePath, storeDirOf } from '../nix/store-path.ts';
import { saltFromHex } from './address.ts';
import { MAX_HOST_LENGTH, MAX_PORT, MAX_SHARD_BYTES, MAX_URL_LENGTH } from './limits.ts';
import { WHOLE_NAME } from './shard.ts';
import type { ShardEntry } from './shard.ts';

/** A store path that the publisher recommends under a name, such as a channel or the name of a host. */
export interface Root {
  /** Of the characters a-z A-Z 0-9 . _ -, at most 128, the first neither a dot nor a dash. Unique in a manifest. */
  readonly name: string;
  readonly path: StorePath;
}

const TIME_PATTERN = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
const ROOT_PATTERN = /^([a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}) (\S+)$/;
const PEER_PATTERN = /^(?:[a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\]):([1-9]\d{0,4})$/;
const TRACKER_PATTERN = /^(?:udp|https?|wss?):\/\/[\x21-\x7e]+$/;
const SHARD_PATTERN = /^(\S+) (\d+) ([01][0-9a-df-np-sv-z]{51})$/;
const PREFIX_PATTERN = /^[0-9a-df-np-sv-z]+$/;

/** A whole number in decimal, without sign or leading zeros. The readers below throw `INDEX_INVALID`, as this does. */
export function parseWhole(text: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  const number = Number(text);
  if (/^(?:0|[1-9]\d*)$/.test(text) && number >= min && number <= max) return number;
  throw malformed(text, `a whole number from ${min} to ${max}`);
}

/** The version that this narswarm knows; a later one is refused with the way out. */
export function assertVersion(text: string, known: number): void {
  if (parseWhole(text, 1) !== known) {
    throw new NarswarmError('INDEX_INVALID', `version ${text} is newer than this narswarm knows: update narswarm`);
  }
}

/** ISO 8601 in UTC, milliseconds dropped; right for the years 0 to 9999, others {@link parseTime} refuses. */
export function formatTime(time: Date): string {
  if (Number.isNaN(time.getTime())) throw malformed(String(time), 'a time');
  return `${time.toISOString().slice(0, 19)}Z`;
}

/** ISO 8601 in UTC to the second; a day that no month has is refused. */
export function parseTime(text: string): Date {
  const time = new Date(text);
  const isTime = TIME_PATTERN.test(text) && !Number.isNaN(time.getTime()) && formatTime(time) === text;
  if (!isTime) throw malformed(text, 'a time such as 2026-01-31T03:00:00Z');
  return time;
}

/** The salt, in hex. */
export function parseSalt(text: string): string {
  const salt = saltFromHex(text);
  if (salt === undefined) throw malformed(text, 'the hex of a salt');
  return salt;
}

/** `<name> <store path>`, the path in this store directory. */
export function parseRoot(text: string, storeDir: string): Root {
  const [, name, path] = ROOT_PATTERN.exec(text) ?? [];
  if (name === undefined || path === undefined) throw malformed(text, 'a name (a-z A-Z 0-9 . _ -) and a store path');
  const root = { name, path: parseStorePath(path) };
  if (storeDirOf(root.path) !== storeDir) throw malformed(text, `a store path in ${storeDir}`);
  return root;
}

/** `<host>:<port>`, an IPv6 address in brackets. */
export function parsePeer(text: string): string {
  const port = Number(PEER_PATTERN.exec(text)?.[1] ?? Number.NaN);
  if (port <= MAX_PORT && text.lastIndexOf(':') <= MAX_HOST_LENGTH) return text;
  throw malformed(text, '<host>:<port>');
}

/** The URL of a tracker. */
export function parseTracker(text: string): string {
  if (text.length <= MAX_URL_LENGTH && TRACKER_PATTERN.test(text) && URL.canParse(text)) return text;
  throw malformed(text, 'the URL of a tracker (udp, http, https, ws or wss)');
}

/** `<prefix> <bytes> <sha256>`, `all` standing for the empty prefix. */
export function formatShard({ prefix, sizeBytes, sha256 }: ShardEntry): string {
  return `${prefix === '' ? WHOLE_NAME : prefix} ${sizeBytes} ${sha256}`;
}

/** What {@link formatShard} wrote, with a prefix of this length. */
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
