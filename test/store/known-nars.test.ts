/** NARs that the store already has, and that somebody then adds or publishes, no longer count as asked for by Nix alone. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { collectRecords } from '../../src/publish/collect-records.ts';
import { addPaths } from '../../src/store/export/add-paths.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import type { AskedBy } from '../../src/store/catalogue/catalogue-entry.ts';
import { collectGarbage } from '../../src/store/gc.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { substitutedOf } from '../../src/subscription/room/substituted.ts';
import { publishedContents } from '../../src/subscription/published.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { entryFor, filledStore, infoOf, KEY } from './store-fixture.ts';

const ALL = [LEAF, NOTE, TOP];
const { signal } = new AbortController();
const ignore = (): void => undefined;

/** A store whose catalogue knows the pieces and the contents of all NARs. */
async function storeOf(t: TestContext, reasons: readonly AskedBy[]): Promise<FileStore> {
  const store = await filledStore(t);
  const entries = await Promise.all(ALL.map((hash, index) => entryFor(store, hash, reasons[index])));
  await (await Catalogue.open(store)).add(entries);
  return store;
}

async function reasonsIn(store: FileStore): Promise<AskedBy[]> {
  return Array.from((await Catalogue.open(store)).entries(), (entry) => entry.askedBy);
}

/** Leaves no room to what only Nix has asked for. @returns number of paths that are left */
async function leftAfterPruning(store: FileStore): Promise<number> {
  const catalogue = await Catalogue.open(store);
  const limited = { maxBytes: 0, storeHashes: async () => (await substitutedOf(catalogue)).storeHashes };
  const now = new Date();
  const roots = (): Promise<[]> => Promise.resolve([]);
  await collectGarbage({ store, roots, maxBytes: undefined, limited, dryRun: false, now, signal, onWarning: ignore });
  return (await store.listStoreHashes()).length;
}

test('what only Nix has asked for is removed', async (t) => {
  assert.equal(
    await leftAfterPruning(await storeOf(t, ['substituter', 'substituter', 'fetch'])),
    3,
    'what it needs stays',
  );
  assert.equal(await leftAfterPruning(await storeOf(t, ['substituter', 'fetch', 'substituter'])), 1);
});

test('add notes what the store has already, without reading it', async (t) => {
  const store = await storeOf(t, ['substituter', 'fetch', 'publish']);
  const closure = await Promise.all(ALL.map((hash) => infoOf(store, hash)));
  const format = { compression: 'zstd', level: 1 } as const;
  const { hashedBytes, added } = await addPaths(closure, {
    store,
    format,
    signer: undefined,
    signal,
    tell: ignore,
    onWarning: ignore,
  });
  assert.deepEqual([hashedBytes, added, await reasonsIn(store)], [0, 0, ['add', 'add', 'add']]);
  assert.equal((await publishedContents(store, [], [KEY])).unnamed.length, 3);
  assert.equal(await leftAfterPruning(store), 3);
});

test('publish notes what only Nix has asked for, and keeps other reasons', async (t) => {
  const store = await storeOf(t, ['substituter', 'add', 'fetch']);
  const infos = await Promise.all(ALL.map((hash) => infoOf(store, hash)));
  const { hashedBytes, records } = await collectRecords(infos, {
    store,
    catalogue: await Catalogue.open(store),
    keys: [KEY],
  });
  assert.deepEqual([hashedBytes, records.length, await reasonsIn(store)], [0, 3, ['publish', 'add', 'fetch']]);
  assert.equal(await leftAfterPruning(store), 3);
});
