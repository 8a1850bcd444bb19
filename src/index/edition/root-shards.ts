/**
 * Divides the records of named roots into shards. Followers of a root fetch the shards of its list, and keep those that
 * the next edition still names. So a shard stays as it is while most of its records count, and new records come into new
 * shards. Records that no longer count are skipped by the list.
 *
 * If too few of their records count, shards are written again without the others. Their list says what they were made
 * from, so that followers make them themselves and fetch nothing.
 */
import type { StoreHash } from '../../nix/brands.ts';
import { MAX_SOURCES } from '../format/limits.ts';
import type { SourceShard } from '../format/shard-list.ts';
import type { FileEntry } from '../format/shard.ts';

/** Records of a new shard. Larger ones take less space: 128 take 12 % more. A single look-up reads a whole one. */
export const ROOT_SHARD_RECORDS = 512;

/**
 * Limit on the bytes of a root's shards, as a multiple of those of its records. Above it, shards with the fewest records
 * that count are written again.
 */
const MAX_EXCESS = 1.15;

/** Shards of the same roots with fewer records are joined. */
const MIN_RECORDS = 64;

/** A shard of the last edition, or a new one. */
export interface BuiltShard {
  readonly entry: FileEntry;
  readonly first: StoreHash;
  readonly last: StoreHash;
  /** Number of its records. */
  readonly size: number;
  /** The records that count for some root, by their places. */
  readonly live: ReadonlyMap<number, StoreHash>;
  /** The shards that it was made from. */
  readonly sources: readonly SourceShard[];
}

/** The roots of each record: their numbers, ascending. */
export type Membership = ReadonlyMap<StoreHash, readonly number[]>;

/** A shard to be made. */
export interface NewShard {
  /** Its records, in order. */
  readonly hashes: readonly StoreHash[];
  /** The shards of the last edition that have all of them. Empty if they are new. */
  readonly from: readonly BuiltShard[];
}

/** The shards of an edition. */
export interface RootPlan {
  readonly kept: readonly BuiltShard[];
  readonly made: readonly NewShard[];
}

/** Decides which shards stay, and which are made. The same arguments give the same plan. */
export function planRootShards(membership: Membership, old: readonly BuiltShard[], rootCount: number): RootPlan {
  const keyOf = (hash: StoreHash): string => (membership.get(hash) ?? []).join(',');
  const there = new Set(old.flatMap(({ live }) => [...live.values()]));
  const added = [...membership.keys()].filter((hash) => !there.has(hash));
  const fresh = Map.groupBy(added, keyOf);
  const again = wastedOf(old, membership, rootCount);
  // Only beside new records: otherwise an edition would differ from the last one although nothing has changed.
  for (const small of smallOf(old, keyOf)) if (fresh.has(small.key)) for (const shard of small.shards) again.add(shard);
  const made = [...fresh.values()].flatMap((hashes) =>
    cut(hashes).map((part): NewShard => ({ hashes: part, from: [] })),
  );
  for (let rest = [...again]; rest.length > 0; rest = rest.slice(MAX_SOURCES)) {
    const from = rest.slice(0, MAX_SOURCES);
    const left = Map.groupBy(
      from.flatMap(({ live }) => [...live.values()]),
      keyOf,
    );
    made.push(...[...left.values()].flatMap((hashes) => cut(hashes).map((part) => ({ hashes: part, from }))));
  }
  return { kept: old.filter((shard) => shard.live.size > 0 && !again.has(shard)), made };
}

/** Divides records evenly into as many shards as they need. */
function cut(hashes: readonly StoreHash[]): StoreHash[][] {
  const ordered = hashes.toSorted();
  const count = Math.ceil(hashes.length / ROOT_SHARD_RECORDS);
  const at = (index: number): number => Math.round((index * hashes.length) / count);
  return Array.from({ length: count }, (_, index) => ordered.slice(at(index), at(index + 1)));
}

/** Returns the small shards of the same roots, if there are several. */
function smallOf(
  shards: readonly BuiltShard[],
  keyOf: (hash: StoreHash) => string,
): { key: string; shards: readonly BuiltShard[] }[] {
  const small = shards.filter(({ live }) => live.size > 0 && live.size < MIN_RECORDS);
  const byKey = Map.groupBy(small, ({ live }) => [...new Set([...live.values()].map(keyOf))].join(';'));
  return Array.from(byKey, ([key, same]) => ({ key, shards: same.length > 1 ? same : [] }));
}

/** Returns the shards of which too few records count for a root. */
function wastedOf(shards: readonly BuiltShard[], membership: Membership, rootCount: number): Set<BuiltShard> {
  const byRoot = Array.from({ length: rootCount }, () => new Map<BuiltShard, number>());
  for (const shard of shards)
    for (const hash of shard.live.values())
      for (const root of membership.get(hash) ?? []) byRoot[root]!.set(shard, (byRoot[root]!.get(shard) ?? 0) + 1);
  const wasted = new Set<BuiltShard>();
  for (const counts of byRoot) {
    let [bytes, usedBytes] = [0, 0];
    const byShare = Array.from(counts, ([shard, count]) => ({ shard, share: count / shard.size }));
    for (const { shard, share } of byShare) {
      bytes += shard.entry.sizeBytes;
      usedBytes += shard.entry.sizeBytes * share;
    }
    for (const { shard, share } of byShare.toSorted((a, b) => a.share - b.share)) {
      if (bytes <= usedBytes * MAX_EXCESS) break;
      bytes -= shard.entry.sizeBytes * (1 - share);
      wasted.add(shard);
    }
  }
  return wasted;
}
