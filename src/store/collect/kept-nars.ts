import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash, storeHashOf } from '../../nix/store-path.ts';
import { namesIn } from '../../disk/names-in.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import { Catalogue } from '../catalogue/catalogue.ts';
import { FileStore } from '../file-store.ts';
import { eachFile } from './scan.ts';
import { narNameOf } from './store-graph.ts';

/** Narinfos that are read at the same time. */
const CONCURRENCY = 32;

/** Returns the bytes of all NARs of a store. @throws STORE_UNWRITABLE if `nar/` cannot be read */
export async function narBytes(store: FileStore): Promise<number> {
  const folder = join(store.dir, 'nar');
  let sum = 0;
  await eachFile(folder, async (name) => {
    const bytes = await sizeOf(join(folder, name)); // before the sum is read: others add meanwhile
    sum += bytes ?? 0;
  });
  return sum;
}

/**
 * Finds the NARs that stay for the closures of some roots, and those that no narinfo names. Returns the bytes of each,
 * by its FileHash.
 *
 * Reads the narinfos of these closures, and those of paths that the catalogue does not list. The catalogue says which
 * other NARs have a narinfo.
 *
 * @throws STORE_UNWRITABLE; the signal's reason
 */
export async function keptNars(
  store: FileStore,
  roots: readonly StorePath[],
  signal: AbortSignal,
): Promise<Map<string, number>> {
  const kept = new Set<string>();
  // Before the narinfos: a NAR whose narinfo arrives meanwhile does not count as one without.
  for await (const name of namesIn(join(store.dir, 'nar'))) kept.add(name);
  for (const name of await namedNars(store, kept, signal)) kept.delete(name);
  const closure = new Set(roots.map(storeHashOf));
  for (let layer = [...closure]; layer.length > 0;) {
    const next: StoreHash[] = [];
    await eachNarInfo(store, layer, signal, ({ url, references }) => {
      kept.add(narNameOf(url));
      for (const reference of references.map((name) => parseStoreHash(name.slice(0, 32)))) {
        if (closure.has(reference)) continue;
        closure.add(reference);
        next.push(reference);
      }
    });
    layer = next;
  }
  const nars = new Map<string, number>();
  await each([...kept], async (name) => {
    const bytes = await sizeOf(join(store.dir, 'nar', name));
    if (bytes !== undefined) nars.set(name.split('.', 1).join(), bytes);
  });
  return nars;
}

/** Returns the names among `nars` that a narinfo names. */
async function namedNars(store: FileStore, nars: ReadonlySet<string>, signal: AbortSignal): Promise<Set<string>> {
  const named = new Set<string>();
  const unknown = new Set(await store.listStoreHashes());
  for (const { storePath, fileHash, extension } of (await Catalogue.open(store)).entries()) {
    const name = narNameOf(FileStore.narUrl(fileHash, extension));
    if (nars.has(name) && unknown.delete(storeHashOf(storePath))) named.add(name);
  }
  await eachNarInfo(store, [...unknown], signal, ({ url }) => void named.add(narNameOf(url)));
  return named;
}

/** Reads narinfos, several at a time. Passes over those that are absent or damaged. */
async function eachNarInfo(
  store: FileStore,
  hashes: readonly StoreHash[],
  signal: AbortSignal,
  take: (info: NarInfo) => void,
): Promise<void> {
  await each(hashes, async (hash) => {
    signal.throwIfAborted();
    const info = await store.readNarInfo(hash).catch((error: unknown) => {
      if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
      return undefined;
    });
    if (info !== undefined) take(info);
  });
}

async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  const lane = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, lane));
}

/** Returns the size of a file. Undefined if there is none. */
async function sizeOf(path: string): Promise<number | undefined> {
  const found = await stat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw storeError(error, path);
  });
  return found?.isFile() === true ? found.size : undefined;
}
