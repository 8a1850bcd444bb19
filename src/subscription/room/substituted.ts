import { freeBytesAt } from '../../disk/free-bytes.ts';
import type { StoreHash } from '../../nix/brands.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { Catalogue } from '../../store/catalogue/catalogue.ts';
import { isOnlyOfNix } from '../../store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../../store/file-store.ts';

/** Most bytes of NARs that only Nix asked for, unless the user sets a budget. */
const MOST_BYTES = 10e9;
/** The most of the space on the disk that would be free without them. */
const MOST_OF_FREE = 0.1;

/** The paths that nobody but Nix has asked for, through the substituter. */
export interface Substituted {
  readonly storeHashes: ReadonlySet<StoreHash>;
  /** Bytes of their NARs. */
  readonly bytes: number;
}

/** Finds the paths that nobody but Nix has asked for. @throws STORE_UNWRITABLE */
export async function substitutedOf(catalogue: Catalogue): Promise<Substituted> {
  await catalogue.refresh();
  const storeHashes = new Set<StoreHash>();
  const files = new Map<string, number>();
  for (const entry of catalogue.entries()) {
    if (!isOnlyOfNix(entry)) continue;
    const { storePath, fileHash, sizeBytes } = entry;
    storeHashes.add(storeHashOf(storePath));
    if (entry.isInNix !== true) files.set(fileHash, sizeBytes); // otherwise it takes no space
  }
  return { storeHashes, bytes: [...files.values()].reduce((sum, size) => sum + size, 0) };
}

/** Returns the limit for the bytes of such NARs: 10 GB, and less on a small disk. */
export async function limitOfSubstituted(store: FileStore, { bytes }: Substituted): Promise<number> {
  const freeBytes = (await freeBytesAt(store.dir)) ?? Infinity;
  return Math.min(MOST_BYTES, MOST_OF_FREE * (freeBytes + bytes));
}
