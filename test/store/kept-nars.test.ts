/** The NARs that a store keeps whatever a mirror chooses. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { pendingEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { keptNars } from '../../src/store/collect/kept-nars.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { emptyStore } from './store-fixture.ts';
import { addPath, pathNamed } from './synthetic-store.ts';

const { signal } = new AbortController();

/** Writes lines of the catalogue as a fetch does. */
async function note(store: FileStore, infos: readonly NarInfo[]): Promise<void> {
  const entries = infos.map(({ storePath, fileHash, fileSize }) => {
    const file = { fileHash: fileHash!, sizeBytes: fileSize!, extension: '', mtimeMs: 0 };
    return pendingEntry(file, storePath, 'fetch');
  });
  await (await Catalogue.open(store)).add(entries);
}

test('they are those of the closures of the roots, and those that no narinfo names', async (t) => {
  const store = await emptyStore(t);
  const leaf = await addPath(store, 'leaf', { bytes: 10 });
  const top = await addPath(store, 'top', { bytes: 20, refersTo: ['leaf', 'top', 'lost', 'damaged'] });
  const known = await addPath(store, 'known', { bytes: 40 });
  await addPath(store, 'unknown', { bytes: 80 });
  const gone = await addPath(store, 'gone', { bytes: 320 });
  const stray = await addPath(store, 'stray', { bytes: 640 });
  for (const { storePath } of [gone, stray]) await rm(join(store.dir, `${storeHashOf(storePath)}.narinfo`));
  await writeFile(join(store.dir, `${storeHashOf(pathNamed('damaged'))}.narinfo`), 'x');
  await note(store, [top, known, gone]);
  const kept = await keptNars(store, [pathNamed('top'), pathNamed('nowhere')], signal);
  assert.deepEqual(
    [...kept].toSorted(([, a], [, b]) => a - b),
    [leaf, top, gone, stray].map(({ fileHash, fileSize }) => [fileHash, fileSize]),
  );
});

test('finds them without reading the narinfos of other paths', async (t) => {
  const store = await emptyStore(t);
  const infos = await Promise.all(['leaf', 'other', 'more'].map((name) => addPath(store, name)));
  infos.push(await addPath(store, 'top', { refersTo: ['leaf'] }));
  await note(store, infos);
  const read: string[] = [];
  const readNarInfo = store.readNarInfo.bind(store);
  store.readNarInfo = (hash) => {
    read.push(hash);
    return readNarInfo(hash);
  };
  assert.equal((await keptNars(store, [pathNamed('top')], signal)).size, 2);
  assert.deepEqual(read, ['top', 'leaf'].map(pathNamed).map(storeHashOf));
});
