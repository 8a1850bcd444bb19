/** Builds the shards of named roots, and a list of them for each root. */
import type { StoreHash } from '../../nix/brands.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { BuildDir } from '../build.ts';
import type { LastEdition, LastRootShard } from './last-edition.ts';
import type { Root } from '../manifest.ts';
import type { RecordTexts } from './record-texts.ts';
import { planRootShards, type Membership, type BuiltShard } from './root-shards.ts';
import { bitsOf, encodeRootList, rootShardOf, type RootShard, type SourceShard } from '../format/shard-list.ts';
import type { ShardRecords } from '../files/shard-records.ts';
import { joinRecords } from '../record.ts';
import { compressFile, fileEntryOf, type FileEntry } from '../format/shard.ts';

/** The shards of named roots in an edition. */
export interface BuiltRoots {
  /** The list of each root, in their order. Undefined if the hash map has no record of its closure. */
  readonly lists: readonly (FileEntry | undefined)[];
  readonly files: readonly FileEntry[];
  /** Records that were in such shards in the last edition. */
  readonly formerly: ReadonlySet<StoreHash>;
}

/** Finds the records of the roots' closures. Skips paths without a record. */
export async function closuresOf(roots: readonly Root[], texts: RecordTexts): Promise<Membership> {
  const membership = new Map<StoreHash, number[]>();
  for (const [number, { path }] of roots.entries()) {
    const closure = new Set([storeHashOf(path)]);
    for (const hash of closure) {
      const record = await texts.find(hash);
      if (record === undefined) continue;
      const of = membership.get(hash);
      if (of === undefined) membership.set(hash, [number]);
      else of.push(number);
      for (const name of record.references) closure.add(name.slice(0, 32) as StoreHash);
    }
  }
  return membership;
}

/** Writes the shards and lists that are not in the folder yet. */
export async function buildRoots(
  roots: readonly Root[],
  membership: Membership,
  texts: RecordTexts,
  last: LastEdition | undefined,
  dir: BuildDir,
): Promise<BuiltRoots> {
  const formerly = new Set<StoreHash>();
  const old: BuiltShard[] = [];
  const there = new Set<StoreHash>();
  for (const found of (await last?.rootShards()) ?? []) {
    const records = await last?.records(found.shard);
    if (records !== undefined) old.push(await oldShardOf(found, records, { membership, texts, there, formerly }));
  }
  const { kept, made } = planRootShards(membership, old, roots.length);
  const shards = [...kept];
  for (const { hashes, from } of made) {
    const parts: Buffer[] = [];
    for (const hash of hashes) parts.push(await texts.of(hash));
    const bytes = compressFile(joinRecords(parts));
    const entry = fileEntryOf(bytes);
    await putFile(dir, entry, bytes);
    const live = new Map(hashes.entries());
    shards.push({ entry, ...rangeOf(hashes), size: hashes.length, live, sources: sourcesOf(hashes, from) });
  }
  const files = new Map(shards.map(({ entry }) => [entry.sha256, entry]));
  const lists = [];
  for (const listed of listsOf(shards, membership, roots.length)) {
    if (listed.length === 0) {
      lists.push(undefined);
      continue;
    }
    const bytes = encodeRootList(listed);
    const entry = fileEntryOf(bytes);
    await putFile(dir, entry, bytes);
    files.set(entry.sha256, entry);
    lists.push(entry);
  }
  return { lists, files: [...files.values()], formerly };
}

/** Writes a file, unless it is in the folder already. */
export async function putFile(dir: BuildDir, entry: FileEntry, bytes: Uint8Array): Promise<void> {
  const there = await dir.readShard(entry);
  if (there === undefined || Buffer.compare(there, bytes) !== 0) await dir.writeShard(entry, bytes);
}

/** Finds the records of a shard that still count: those with the text that they have now. */
async function oldShardOf(
  { shard: { sizeBytes, sha256, sources }, counted }: LastRootShard,
  records: ShardRecords,
  context: { membership: Membership; texts: RecordTexts; there: Set<StoreHash>; formerly: Set<StoreHash> },
): Promise<BuiltShard> {
  const { membership, texts, there, formerly } = context;
  const hashes = [...records.keys()];
  const live = new Map<number, StoreHash>();
  for (const [place, hash] of hashes.entries()) {
    if (counted(place)) formerly.add(hash);
    if (!membership.has(hash) || there.has(hash)) continue;
    const isSame = texts.stays(hash)
      ? counted(place)
      : texts.given.has(hash) && records.textAt(place).equals(await texts.of(hash));
    if (!isSame) continue;
    live.set(place, hash);
    there.add(hash);
  }
  return { entry: { sizeBytes, sha256 }, ...rangeOf(hashes), size: hashes.length, live, sources };
}

/** Returns the shards that have these records, and which of theirs these are. */
function sourcesOf(hashes: readonly StoreHash[], from: readonly BuiltShard[]): SourceShard[] {
  const wanted = new Set(hashes);
  return from.flatMap(({ entry: { sha256 }, live, size }) => {
    const places = Array.from(live).flatMap(([place, hash]) => (wanted.has(hash) ? place : []));
    return places.length === 0 ? [] : { sha256, live: bitsOf(places, size) };
  });
}

/** Returns the lowest and the highest of ascending store hashes. */
function rangeOf(hashes: readonly StoreHash[]): Pick<BuiltShard, 'first' | 'last'> {
  return { first: hashes[0] ?? ('' as StoreHash), last: hashes.at(-1) ?? ('' as StoreHash) };
}

/** Returns the shards of each root, in the order of their store hashes. */
function listsOf(shards: readonly BuiltShard[], membership: Membership, rootCount: number): RootShard[][] {
  const lists = Array.from({ length: rootCount }, (): RootShard[] => []);
  for (const shard of shards) {
    const places = new Map<number, number[]>();
    for (const [place, hash] of shard.live)
      for (const root of membership.get(hash) ?? []) places.set(root, [...(places.get(root) ?? []), place]);
    for (const [root, of] of places) lists[root]!.push(rootShardOf(shard, of));
  }
  const keyOf = ({ first, sha256 }: RootShard): string => `${first} ${sha256}`;
  return lists.map((list) => list.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)));
}
