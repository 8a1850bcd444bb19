import type { FileHash, StoreHash } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { HashMap } from './hash-map.ts';

/** Ranks the files of NARs. Files with a low rank are wanted most. */
export type RankFiles = (
  files: readonly { readonly file: FileHash; readonly sizeBytes: number }[],
  signal: AbortSignal,
) => Promise<(file: FileHash) => number>;

/** A limit on the held part of a hash map. */
export interface MapBudget {
  /** Limit on the bytes of all NARs of the store. */
  readonly maxBytes: number;
  /** NARs that the store keeps for others in any case: the bytes of each, by its FileHash. Default: none. */
  readonly kept?: ReadonlyMap<string, number> | undefined;
  /** Called only if not everything fits. Default: all have the same rank. */
  readonly rankFiles?: RankFiles | undefined;
}

/** The part of a hash map that does not fit. */
export interface Beyond {
  readonly paths: number;
  readonly bytes: number;
}

/** The chosen paths of a hash map. */
export interface WithinBudget {
  readonly hashes: readonly StoreHash[];
  /** Names of the roots whose closures do not fit. */
  readonly leftOut: readonly string[];
  /** The paths that do not fit, and the bytes of their NARs. */
  readonly beyond: Beyond;
}

interface Entry {
  readonly fileHash: FileHash | undefined;
  readonly bytes: number;
  readonly references: readonly StoreHash[];
}

/**
 * Chooses the part of a map that fits into a budget. If the whole map does not fit, chooses the closures of its roots
 * that still fit, then other paths with their references. Roots come in the order of their lowest rank, paths in the
 * order of their own rank; with equal rank, in the order of the map. A NAR that several paths have counts once. A NAR that
 * the store keeps for others takes part of the budget; then it is free.
 *
 * @throws as {@link HashMap.storeHashes}
 */
export async function withinBudget(
  map: HashMap,
  { maxBytes, kept = new Map(), rankFiles }: MapBudget,
  signal: AbortSignal,
): Promise<WithinBudget> {
  if (maxBytes === Infinity) {
    const hashes: StoreHash[] = [];
    for await (const hash of map.storeHashes(signal)) hashes.push(hash);
    return { hashes, leftOut: [], beyond: NOTHING };
  }
  const entries = await readEntries(map, signal);
  const leftBytes = Math.max(0, maxBytes - sum(kept.values()));
  if (sizeOfAll(entries, kept) <= leftBytes) return { hashes: [...entries.keys()], leftOut: [], beyond: NOTHING };
  const rankOf = await ranksOf(entries, rankFiles, signal);
  const choice = new Choice(entries, leftBytes, kept);
  const roots = map.manifest.roots.map(({ name, path }) => {
    const hash = storeHashOf(path);
    return { name, hash, rank: Math.min(...Array.from(closureOf(hash, entries), rankOf)) };
  });
  const leftOut = new Set<string>();
  for (const { name, hash } of byRank(roots)) if (!choice.take(hash)) leftOut.add(name);
  const paths = Array.from(entries.keys(), (hash) => ({ hash, rank: rankOf(hash) }));
  for (const { hash } of byRank(paths)) choice.take(hash);
  return {
    hashes: [...choice.chosen],
    leftOut: map.manifest.roots.flatMap(({ name }) => (leftOut.has(name) ? name : [])),
    beyond: { paths: entries.size - choice.chosen.size, bytes: sizeOfAll(entries, choice.files) },
  };
}

async function readEntries(map: HashMap, signal: AbortSignal): Promise<Map<StoreHash, Entry>> {
  const entries = new Map<StoreHash, Entry>();
  for await (const hash of map.storeHashes(signal)) {
    const record = await map.find(hash, signal);
    if (record === undefined) continue;
    const references = record.references.map((name) => name.slice(0, 32) as StoreHash);
    entries.set(hash, { fileHash: record.fileHash, bytes: record.fileSize ?? 0, references });
  }
  return entries;
}

const NOTHING: Beyond = { paths: 0, bytes: 0 };

/** Returns the files of all paths, each once. */
function filesOf(entries: ReadonlyMap<StoreHash, Entry>): { file: FileHash; sizeBytes: number }[] {
  const files = new Map<FileHash, number>();
  for (const { fileHash, bytes } of entries.values()) if (fileHash !== undefined) files.set(fileHash, bytes);
  return Array.from(files, ([file, sizeBytes]) => ({ file, sizeBytes }));
}

/** Returns the bytes of all files, without those that are kept in any case. */
function sizeOfAll(
  entries: ReadonlyMap<StoreHash, Entry>,
  kept: { readonly has: (file: FileHash) => boolean },
): number {
  return sum(filesOf(entries).map(({ file, sizeBytes }) => (kept.has(file) ? 0 : sizeBytes)));
}

function sum(bytes: Iterable<number>): number {
  let total = 0;
  for (const one of bytes) total += one;
  return total;
}

async function ranksOf(
  entries: ReadonlyMap<StoreHash, Entry>,
  rankFiles: RankFiles | undefined,
  signal: AbortSignal,
): Promise<(hash: StoreHash) => number> {
  if (rankFiles === undefined) return () => 0;
  const rankOfFile = await rankFiles(filesOf(entries), signal);
  return (hash) => {
    const file = entries.get(hash)?.fileHash;
    return file === undefined ? Infinity : rankOfFile(file);
  };
}

function byRank<T extends { readonly rank: number }>(items: readonly T[]): T[] {
  return items.toSorted((a, b) => (a.rank === b.rank ? 0 : a.rank - b.rank)); // two may be Infinity
}

function closureOf(root: StoreHash, entries: ReadonlyMap<StoreHash, Entry>): Set<StoreHash> {
  const closure = new Set([root]);
  for (const hash of closure)
    for (const reference of entries.get(hash)?.references ?? []) if (entries.has(reference)) closure.add(reference);
  return closure;
}

/** Chooses paths one after another, each with its closure, while they fit. */
class Choice {
  readonly chosen = new Set<StoreHash>();
  readonly #entries: ReadonlyMap<StoreHash, Entry>;
  /** Files of the chosen paths, and those that are kept in any case. */
  readonly files: Set<string>;
  /** Paths whose closures do not fit. Paths that refer to them do not fit either. */
  readonly #tooLarge = new Set<StoreHash>();
  #leftBytes: number;

  /** @param kept files that cost nothing */
  constructor(entries: ReadonlyMap<StoreHash, Entry>, maxBytes: number, kept: ReadonlyMap<string, number>) {
    this.#entries = entries;
    this.#leftBytes = maxBytes;
    this.files = new Set(kept.keys());
  }

  /** Chooses a path with its closure. @returns false if they do not fit */
  take(root: StoreHash): boolean {
    if (this.chosen.has(root)) return true;
    const more = new Set([root]);
    const files = new Set<FileHash>();
    let bytes = 0;
    for (const hash of more) {
      const { fileHash, bytes: size = 0, references = [] } = this.#entries.get(hash) ?? {};
      if (fileHash !== undefined && !this.files.has(fileHash) && !files.has(fileHash)) {
        files.add(fileHash);
        bytes += size;
      }
      if (this.#tooLarge.has(hash) || bytes > this.#leftBytes) {
        this.#tooLarge.add(root);
        return false;
      }
      for (const next of references) if (this.#entries.has(next) && !this.chosen.has(next)) more.add(next);
    }
    for (const hash of more) this.chosen.add(hash);
    for (const file of files) this.files.add(file);
    this.#leftBytes -= bytes;
    return true;
  }
}
