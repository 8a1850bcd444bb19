/** Builds the shards that are named by prefixes: the records outside of named roots, and references to the others. */
import type { StoreHash } from '../../nix/brands.ts';
import type { BuildDir } from '../build.ts';
import { putFile } from './build-roots.ts';
import { joinRecords } from '../record.ts';
import type { LastEdition } from './last-edition.ts';
import type { Root } from '../manifest.ts';
import type { RecordTexts } from './record-texts.ts';
import type { Membership } from './root-shards.ts';
import { encodePrefixList } from '../format/shard-list.ts';
import { formatReference, type ShardRecords } from '../files/shard-records.ts';
import { compressFile, shardEntryOf, shardPrefix, type ShardEntry } from '../format/shard.ts';

/** How the records are divided. */
export interface Division {
  readonly prefixLength: number;
  readonly membership: Membership;
  readonly roots: readonly Root[];
  /** Records that were in the shards of named roots in the last edition. */
  readonly formerly: ReadonlySet<StoreHash>;
}

/** The shards of an edition that are named by prefixes. */
export interface BuiltPrefixes {
  /** The entries of the manifest: shards, or lists of shards. */
  readonly listed: readonly ShardEntry[];
  readonly files: readonly ShardEntry[];
  readonly recordCount: number;
}

/** Writes the shards and lists that are not in the folder yet. */
export async function buildPrefixShards(
  division: Division,
  texts: RecordTexts,
  last: LastEdition | undefined,
  dir: BuildDir,
): Promise<BuiltPrefixes> {
  const { prefixLength, membership, formerly } = division;
  const { removed, given } = texts;
  const lastLength = last?.manifest.prefixLength ?? 0;
  const before = [...((await last?.prefixShards()) ?? [])];
  // Shards of another length are divided again: by the shorter prefix, each part at a time.
  const unitOf = (prefix: string): string => prefix.slice(0, Math.min(prefixLength, lastLength));
  const old = Map.groupBy(before, ({ prefix }) => unitOf(prefix));
  const isAdded = removed !== undefined && lastLength === prefixLength;
  const shards = new Map(isAdded ? before.map((entry) => [entry.prefix, entry]) : []);
  let recordCount = isAdded ? (last?.manifest.recordCount ?? 0) : 0;
  const touched = new Set(
    removed === undefined ? given.keys() : [...given.keys(), ...removed, ...membership.keys(), ...formerly],
  );
  const touchedIn = Map.groupBy(touched, (hash) => unitOf(shardPrefix(hash, prefixLength)));
  for (const unit of new Set([...touchedIn.keys(), ...(isAdded ? [] : old.keys())])) {
    const there: OldShard[] = [];
    for (const entry of old.get(unit) ?? []) there.push({ entry, records: await last?.records(entry) });
    const lines = removed === undefined ? new Map<StoreHash, Buffer>() : linesIn(there);
    const keptCount = lines.size;
    await change(lines, touchedIn.get(unit) ?? [], texts, division);
    recordCount += lines.size - (isAdded ? keptCount : 0);
    if (isAdded && lines.size === 0) shards.delete(unit);
    for (const [prefix, hashes] of Map.groupBy([...lines.keys()].toSorted(), (hash) =>
      shardPrefix(hash, prefixLength),
    )) {
      const text = joinRecords(hashes.map((hash) => lines.get(hash)!));
      const same = there.find(({ entry, records }) => entry.prefix === prefix && records?.isText(text) === true);
      if (same !== undefined) shards.set(prefix, same.entry);
      else shards.set(prefix, await putPrefix(dir, prefix, compressFile(text)));
    }
  }
  const ordered = [...shards.values()].toSorted((a, b) => (a.prefix < b.prefix ? -1 : 1));
  if (prefixLength <= 1) return { listed: ordered, files: ordered, recordCount };
  const lists: ShardEntry[] = [];
  for (const [first, entries] of Map.groupBy(ordered, ({ prefix }) => prefix.slice(0, 1)))
    lists.push(await putPrefix(dir, first, encodePrefixList(entries)));
  return { listed: lists, files: [...lists, ...ordered], recordCount };
}

/** A shard of the last edition. */
interface OldShard {
  readonly entry: ShardEntry;
  /** Undefined if it is damaged. */
  readonly records: ShardRecords | undefined;
}

/** Returns the records and references of shards, by their store hashes. */
function linesIn(shards: readonly OldShard[]): Map<StoreHash, Buffer> {
  const lines = new Map<StoreHash, Buffer>();
  for (const { records } of shards) {
    if (records === undefined) continue;
    let place = 0;
    for (const hash of records.keys()) lines.set(hash, records.textAt(place++));
  }
  return lines;
}

/**
 * Turns the records and references of the last edition into those of the new one.
 *
 * @param lines by their store hashes
 * @param touched the store hashes of those that may have changed, each once
 */
async function change(
  lines: Map<StoreHash, Buffer>,
  touched: readonly StoreHash[],
  texts: RecordTexts,
  { membership, roots }: Division,
): Promise<void> {
  for (const hash of touched) {
    const of = membership.get(hash);
    if (of !== undefined) lines.set(hash, Buffer.from(formatReference(hash, nameOf(of, roots))));
    else if (texts.given.has(hash) || (lines.has(hash) && texts.stays(hash))) lines.set(hash, await texts.of(hash));
    else lines.delete(hash);
  }
}

/** Returns the first of the roots in the order of their names. */
function nameOf(of: readonly number[], roots: readonly Root[]): string {
  return of.map((number) => roots[number]!.name).toSorted()[0]!;
}

async function putPrefix(dir: BuildDir, prefix: string, bytes: Uint8Array): Promise<ShardEntry> {
  const entry = shardEntryOf(prefix, bytes);
  await putFile(dir, entry, bytes);
  return entry;
}
