/** Each test removes one condition, and the patch is no longer given. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { PATCH_EXTENSION } from '../../src/delta/record.ts';
import { prefixOf, type FilePrefix } from '../../src/exchange/messages/messages.ts';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import { OfferedPatches } from '../../src/serve/offered-patches.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { PatchList, type KeptPatch } from '../../src/store/patch-list.ts';
import { narTorrent } from '../../src/torrent/canonical.ts';
import { LEAF } from '../nix/fixtures.ts';
import { filledStore, infoOf, KEY, sharedBy } from '../store/store-fixture.ts';

const CONTENTS = Buffer.from('a patch');

/** Puts a patch of a path into a store. */
async function patchIn(store: FileStore, storeHash: string, change: Partial<KeptPatch> = {}): Promise<KeptPatch> {
  const { storePath, narHash } = await infoOf(store, storeHash);
  const torrent = narTorrent({
    fileHash: fileHashOf(createHash('sha256').update(CONTENTS).digest()),
    extension: PATCH_EXTENSION,
    sizeBytes: CONTENTS.length,
    pieces: createHash('sha1').update(CONTENTS).digest(),
  });
  const base = { baseName: `${LEAF}-base`, baseNarHash: narHashOf(Buffer.alloc(32)), baseNarSize: 100 };
  const patch = { storePath, narHash, ...base, torrent, ...change };
  const list = new PatchList(store);
  await writeFile(list.pathOf(patch), CONTENTS);
  await list.add(patch);
  return patch;
}

interface Door {
  readonly store: FileStore;
  readonly patch: KeptPatch;
  readonly prefix: FilePrefix;
  /** Names of patches that were given. */
  readonly served: string[];
  readonly offered: (keys?: Parameters<typeof sharedBy>[1]) => Promise<OfferedPatches>;
}

async function door(t: TestContext, change: Partial<KeptPatch> = {}): Promise<Door> {
  const store = await filledStore(t);
  const patch = await patchIn(store, LEAF, change);
  const names: string[] = [];
  const served = { note: (name: string): number => names.push(name) };
  const offered: Door['offered'] = async (keys = [KEY]) =>
    new OfferedPatches({ store, catalogue: await Catalogue.open(store), shared: sharedBy(store, keys), served });
  return { store, patch, prefix: prefixOf(patch.torrent.fileHash), served: names, offered };
}

/** Returns whether a patch is given, by each way. */
async function isGiven(offered: OfferedPatches, { prefix, patch }: Pick<Door, 'prefix' | 'patch'>): Promise<boolean> {
  const opened = await offered.open(prefix);
  await opened?.[Symbol.asyncDispose]();
  const seed = await offered.seed(patch.torrent.infoHash);
  assert.equal(seed !== undefined, opened !== undefined);
  assert.equal(offered.holds(prefix), opened !== undefined);
  return opened !== undefined;
}

test('a patch of a shared path is given, and members hear of it once it is checked', async (t) => {
  const at = await door(t);
  const offered = await at.offered();
  const told = new Promise<FilePrefix>((resolve) => (offered.onNews = resolve));
  assert.equal(offered.holds(at.prefix), false);
  assert.equal(await told, at.prefix);
  assert.equal(offered.holds(at.prefix), true);
  assert.equal(await isGiven(offered, at), true);
  assert.deepEqual([...offered.infoHashes()], [at.patch.torrent.infoHash]);
});

test('a patch of a path that is not shared is not given', async (t) => {
  const at = await door(t);
  assert.equal(await isGiven(await at.offered([]), at), false);
});

test('a patch whose path is gone, or was built differently, is not given', async (t) => {
  const other = await door(t, { narHash: narHashOf(Buffer.alloc(32, 1)) });
  assert.equal(await isGiven(await other.offered(), other), false);
  const at = await door(t);
  const offered = await at.offered();
  assert.equal(await isGiven(offered, at), true);
  await rm(`${at.store.dir}/${LEAF}.narinfo`);
  assert.equal(await isGiven(offered, at), false);
});

test('a patch whose file is gone, or has another size, is not given', async (t) => {
  const at = await door(t);
  const offered = await at.offered();
  assert.equal(await isGiven(offered, at), true);
  await writeFile(new PatchList(at.store).pathOf(at.patch), 'more than a patch');
  assert.equal(await isGiven(offered, at), false);
});

test('a patch is found by its FileHash, and noted as given', async (t) => {
  const at = await door(t);
  const offered = await at.offered();
  const { fileHash, name } = at.patch.torrent;
  const other = fileHashOf(Buffer.concat([Buffer.from(at.prefix, 'hex'), Buffer.alloc(24)]));
  assert.equal(prefixOf(other), at.prefix);
  assert.equal(await offered.open(other), undefined, 'another file with the same beginning');
  assert.deepEqual(at.served, []);
  await using opened = await offered.open(fileHash);
  assert.equal(opened?.sizeBytes, CONTENTS.length);
  assert.deepEqual(at.served, [name]);
});
