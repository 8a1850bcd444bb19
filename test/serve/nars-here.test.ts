/** Whether the NAR of a narinfo can be given now. The Nix store: see nix-offer.test.ts. */
import assert from 'node:assert/strict';
import { readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { narInfoWithoutNar } from '../../src/nix/path-info.ts';
import type { NarsHere } from '../../src/serve/nars-here.ts';
import { StoreOffer } from '../../src/serve/store-offer.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { noContents, type CatalogueEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { LEAF } from '../nix/fixtures.ts';
import { entryFor, filledStore, infoOf, KEY } from '../store/store-fixture.ts';

interface Scene {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly here: NarsHere;
  readonly info: NarInfo;
  readonly entry: CatalogueEntry;
  readonly path: string;
  /** Returns what is said of the file by its narinfo, and by its name. */
  readonly answers: () => Promise<[boolean, boolean]>;
}

/** Makes a store with a path that the catalogue lists. */
async function scene(t: TestContext, { isListed = true } = {}): Promise<Scene> {
  const store = await filledStore(t);
  const offer = await StoreOffer.open({ store, keys: [KEY], shareKeys: [], onWarning: () => undefined });
  t.after(() => offer[Symbol.asyncDispose]());
  const [info, entry] = [await infoOf(store, LEAF), await entryFor(store, LEAF)];
  if (isListed) await offer.catalogue.add([entry]);
  const { here, catalogue } = offer;
  const answers: Scene['answers'] = async () => [
    await here.has(info),
    (await here.named(entry.fileHash, entry.extension)) !== undefined,
  ];
  return { store, catalogue, here, info, entry, path: store.narPath(info), answers };
}

test('a file is here until it is removed, and again when it is back', async (t) => {
  const { answers, path } = await scene(t);
  assert.deepEqual(await answers(), [true, true]);
  await rename(path, `${path}.away`);
  assert.deepEqual(await answers(), [false, false]);
  await rename(`${path}.away`, path);
  assert.deepEqual(await answers(), [true, true]);
});

test('a file with other bytes of the same number is not here', async (t) => {
  const { answers, path } = await scene(t);
  const bytes = await readFile(path);
  bytes[5]! ^= 1;
  await writeFile(path, bytes);
  await utimes(path, 1_000, 1_000);
  assert.deepEqual(await answers(), [false, false]);
});

test('a file with another time is read again', async (t) => {
  const { answers, path } = await scene(t);
  await utimes(path, 1_000, 1_000);
  while (!(await answers())[0]) t.signal.throwIfAborted(); // on a busy machine, a check takes longer than a question waits
  assert.deepEqual(await answers(), [true, true]);
});

test('a file that another process has just put there is here, although this one has not read of it yet', async (t) => {
  const { answers, store, path, entry } = await scene(t);
  await utimes(path, 1_000, 1_000);
  await (await Catalogue.open(store)).add([{ ...entry, mtimeMs: 1_000_000 }]);
  assert.deepEqual(await answers(), [true, true]);
});

test('a file with other contents, or of another size, is not here', async (t) => {
  const { here, info, entry, catalogue } = await scene(t, { isListed: false });
  assert.equal(await here.has(info), true, 'nobody has read it, and whoever gets it checks it');
  assert.equal(await here.has({ ...info, fileSize: info.fileSize! + 1 }), false);
  await catalogue.add([{ ...entry, narHash: noContents(info.narSize) }]);
  assert.equal(await here.has(info), false);
});

test('narinfos of no file, or of one elsewhere, are of nothing here', async (t) => {
  const { here, info, path } = await scene(t);
  assert.equal(await here.has(narInfoWithoutNar(info)), false);
  assert.equal(await here.has({ ...info, url: '../secret' }), false);
  await rm(path);
  assert.equal(await here.file(info), undefined);
});
