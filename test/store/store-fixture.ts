/** File stores in folders that vanish, filled from the cache that real Nix made (fixtures/nix). */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parsePublicKey, type PublicKey } from '../../src/nix/signature.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { SharedNars } from '../../src/serve/shared-nars.ts';
import { entryOf, type AskedBy, type CatalogueEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { describeNar } from '../../src/store/hashing/describe-nar.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { CACHE_DIR, readFixture } from '../nix/fixtures.ts';

/** The key that signed the fixtures. */
export const KEY: PublicKey = parsePublicKey(readFixture('fixture-1.public'));

/** Makes a folder that is removed after the test. */
export async function tempDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-store-'));
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 })); // a worker may still write
  return dir;
}

export async function emptyStore(t: TestContext): Promise<FileStore> {
  return FileStore.open(await tempDir(t), { create: true });
}

/** A store with the three paths of the fixtures. */
export async function filledStore(t: TestContext): Promise<FileStore> {
  const dir = await tempDir(t);
  await cp(CACHE_DIR, dir, { recursive: true });
  return FileStore.open(dir, { create: true });
}

/** The narinfo of a path of the fixtures. */
export async function infoOf(store: FileStore, storeHash: string): Promise<NarInfo> {
  return (await store.readNarInfo(parseStoreHash(storeHash)))!;
}

/** Returns the catalogue's entry for a path of the store whose contents were checked. */
export async function entryFor(
  store: FileStore,
  storeHash: string,
  askedBy: AskedBy = 'fetch',
): Promise<CatalogueEntry> {
  const { storePath, torrent } = await describeNar(store, parseStoreHash(storeHash));
  const info = await infoOf(store, storeHash);
  const file = await store.statNar(info);
  return entryOf(torrent, storePath, file!.mtimeMs, askedBy, info.narHash);
}

/** Returns the entry as an earlier version wrote it, without a check of the contents. */
export function unchecked(entry: CatalogueEntry): CatalogueEntry {
  const { narHash: _, ...rest } = entry;
  return rest;
}

/** Returns the shared NARs of a machine that trusts and shares all of these keys. */
export function sharedBy(store: FileStore, keys: readonly PublicKey[] = [KEY]): SharedNars {
  return new SharedNars({ keys, shareKeys: keys, stateDir: store.stateDir });
}
