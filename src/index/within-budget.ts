import type { FileHash, StoreHash } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { HashMap } from './hash-map.ts';

/** The paths of a hash map that are to be held. */
export interface WithinBudget {
  readonly hashes: readonly StoreHash[];
  /** Names of the roots that do not fit; the map's other paths are left out with them. */
  readonly leftOut: readonly string[];
}

interface Entry {
  readonly fileHash: FileHash | undefined;
  readonly bytes: number;
  readonly references: readonly StoreHash[];
}

/**
 * Chooses what of a map fits into a number of bytes: all of it, or else the closures of its roots, in the order of the map,
 * each if it still fits. A NAR that several paths have counts once.
 *
 * @throws as {@link HashMap.storeHashes}
 */
export async function withinBudget(map: HashMap, maxBytes: number, signal: AbortSignal): Promise<WithinBudget> {
  if (maxBytes === Infinity) {
    const hashes: StoreHash[] = [];
    for await (const hash of map.storeHashes(signal)) hashes.push(hash);
    return { hashes, leftOut: [] };
  }
  const entries = await readEntries(map, signal);
  const all = new Budget(entries);
  for (const hash of entries.keys()) all.take([hash]);
  if (all.bytes <= maxBytes) return { hashes: [...entries.keys()], leftOut: [] };
  const chosen = new Set<StoreHash>();
  const leftOut: string[] = [];
  let held = new Budget(entries);
  for (const { name, path } of map.manifest.roots) {
    const closure = closureOf(storeHashOf(path), entries);
    const more = held.with(closure);
    if (more.bytes > maxBytes) {
      leftOut.push(name);
      continue;
    }
    held = more;
    for (const hash of closure) chosen.add(hash);
  }
  return { hashes: [...chosen], leftOut };
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

function closureOf(root: StoreHash, entries: ReadonlyMap<StoreHash, Entry>): StoreHash[] {
  const closure = new Set([root]);
  for (const hash of closure)
    for (const reference of entries.get(hash)?.references ?? []) if (entries.has(reference)) closure.add(reference);
  return [...closure];
}

/** The bytes of NARs, each counted once. */
class Budget {
  bytes = 0;
  readonly #entries: ReadonlyMap<StoreHash, Entry>;
  readonly #files: Set<FileHash>;

  constructor(entries: ReadonlyMap<StoreHash, Entry>, files: ReadonlySet<FileHash> = new Set()) {
    this.#entries = entries;
    this.#files = new Set(files);
  }

  take(hashes: readonly StoreHash[]): void {
    for (const hash of hashes) {
      const { fileHash, bytes = 0 } = this.#entries.get(hash) ?? {};
      if (fileHash === undefined || this.#files.has(fileHash)) continue;
      this.#files.add(fileHash);
      this.bytes += bytes;
    }
  }

  with(hashes: readonly StoreHash[]): Budget {
    const more = new Budget(this.#entries, this.#files);
    more.bytes = this.bytes;
    more.take(hashes);
    return more;
  }
}
