/** The offer of NARs that are read from the Nix store: each test removes one condition. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, link, lstat, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { test, type TestContext } from 'node:test';
import { prefixOf } from '../../src/exchange/messages/messages.ts';
import { asFileHash } from '../../src/nix/hash.ts';
import type { PublicKey } from '../../src/nix/signature.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { StoreOffer } from '../../src/serve/store-offer.ts';
import { useNixFolder } from '../support/nix-folder.ts';
import { KEY } from '../store/store-fixture.ts';
import { collect, copyToNix, importedStore, placeOf, type ImportedStore } from '../store/in-nix/imported-store.ts';

useNixFolder(() => undefined);

interface Scene extends ImportedStore {
  readonly offer: StoreOffer;
}

/** Makes a store that has let go of all its NARs. */
async function scene(t: TestContext, shareKeys: readonly PublicKey[] = [KEY]): Promise<Scene> {
  const imported = await importedStore(t);
  assert.equal((await collect(imported.store)).released.nars, 3);
  const offer = await StoreOffer.open({ store: imported.store, keys: [KEY], shareKeys, onWarning: () => undefined });
  t.after(() => offer[Symbol.asyncDispose]());
  return { ...imported, offer };
}

/** Returns what the offer says of the path with a folder at the time when it has looked at it. */
async function holds({ offer, top }: Scene): Promise<unknown> {
  const prefix = prefixOf(asFileHash(top.narHash));
  const known = offer.forMembers.holds(prefix);
  if (known !== undefined) return known;
  const opened = await offer.forMembers.open(prefix, { address: '127.0.0.1:1', from: 0, length: 1 });
  if (typeof opened !== 'string') await opened[Symbol.asyncDispose]();
  return offer.forMembers.holds(prefix);
}

/** Returns the whole NAR, or the refusal. */
async function given({ offer, top }: Scene): Promise<Buffer | string> {
  const opened = await offer.forMembers.open(asFileHash(top.narHash), { address: '127.0.0.1:1', from: 0, length: 1 });
  if (typeof opened === 'string') return opened;
  await using file = opened;
  const target = Buffer.alloc(file.sizeBytes);
  return file.read(target, 0).then(
    () => target,
    () => 'failed',
  );
}

test('offers and gives the NAR by its NarHash, with the bytes of Nix, and its narinfo as it was', async (t) => {
  const one = await scene(t);
  const prefix = prefixOf(asFileHash(one.top.narHash));
  while (one.offer.forMembers.holds(prefix) !== 'whole') await once(one.offer.forMembers, 'news');
  const { stdout } = spawnSync('nix-store', ['--dump', placeOf(one.top)]);
  assert.deepEqual(await given(one), stdout);
  assert.equal(one.offer.forMembers.holds(prefixOf(one.top.fileHash!)), undefined);
  const hash = storeHashOf(one.top.storePath);
  assert.equal(await one.offer.forMembers.narInfo(hash), await one.store.readNarInfoText(hash));
});

test('neither offers nor gives what no share-key has signed', async (t) => {
  const one = await scene(t, []);
  assert.equal(await holds(one), undefined);
  assert.equal(await given(one), 'absent');
});

test('neither offers nor gives a path whose narinfo is gone', async (t) => {
  const one = await scene(t);
  assert.equal(await holds(one), 'whole');
  await rm(one.store.narInfoPath(storeHashOf(one.top.storePath)));
  assert.equal(await given(one), 'absent');
});

test('offers a path no longer as soon as Nix has collected it', async (t) => {
  const one = await scene(t);
  assert.equal(await holds(one), 'whole');
  assert.equal(spawnSync('nix-store', ['--delete', one.top.storePath]).status, 0);
  assert.equal(one.offer.forMembers.holds(prefixOf(asFileHash(one.top.narHash))), undefined);
  assert.equal(await given(one), 'absent');
  assert.equal(await one.offer.forMembers.narInfo(storeHashOf(one.top.storePath)), undefined);
});

test('offers a path again as soon as it is back, however often it was asked for meanwhile', async (t) => {
  const one = await scene(t);
  const prefix = prefixOf(asFileHash(one.top.narHash));
  const hash = storeHashOf(one.top.storePath);
  assert.equal(await holds(one), 'whole');
  assert.equal(spawnSync('nix-store', ['--delete', one.top.storePath]).status, 0);
  assert.equal(await holds(one), undefined);
  assert.equal(await one.offer.inNix(one.top, { isShared: false }), undefined);
  assert.equal(
    await one.offer.checker.check(one.offer.catalogue.byStorePath(one.top.storePath)!, one.top, 'now'),
    undefined,
  );
  copyToNix(one.top);
  assert.equal(one.offer.forMembers.holds(prefix), undefined, 'it must be hashed first');
  while (one.offer.forMembers.holds(prefix) !== 'whole') await once(one.offer.forMembers, 'news');
  assert.notEqual(await one.offer.forMembers.narInfo(hash), undefined);
});

test('no byte is given of a path that was made again with other contents while it is read', async (t) => {
  const one = await scene(t);
  const opened = await one.offer.forMembers.open(asFileHash(one.leaf.narHash), {
    address: '127.0.0.1:1',
    from: 0,
    length: 1,
  });
  assert.ok(typeof opened !== 'string');
  await using file = opened;
  const place = placeOf(one.leaf);
  const { size } = await lstat(place);
  await chmod(dirname(place), 0o755);
  await rm(place);
  await writeFile(place, Buffer.alloc(size, 'x'));
  await utimes(place, 1, 1);
  await assert.rejects(file.read(Buffer.alloc(file.sizeBytes), 0), RangeError);
});

test('a path that was put there again is hashed again, and offered only if it has the same contents', async (t) => {
  const one = await scene(t);
  assert.equal(await holds(one), 'whole');
  const bytes = await given(one);
  const place = placeOf(one.top);
  await chmod(dirname(place), 0o755);
  await rename(place, `${place}.old`);
  spawnSync('cp', ['-a', `${place}.old`, place]);
  assert.equal(one.offer.forMembers.holds(prefixOf(asFileHash(one.top.narHash))), undefined);
  assert.deepEqual(await given(one), bytes);
  await chmod(place, 0o644);
  await writeFile(place, Buffer.alloc((await lstat(place)).size, 'x'));
  await utimes(place, 1, 1);
  assert.equal(one.offer.forMembers.holds(prefixOf(asFileHash(one.top.narHash))), undefined);
  assert.equal(await given(one), 'absent');
});

test('this machine gets a path whose links were merged, too', async (t) => {
  const { offer, top } = await scene(t);
  const place = placeOf(top);
  await chmod(dirname(place), 0o755);
  await link(place, `${place}.same`); // as Nix does for files with the same contents
  let file = await offer.inNix(top, { isShared: false });
  // on a busy machine, the look takes longer than an answer may wait
  for (let tries = 1; file === undefined && tries < 20; tries++) file = await offer.inNix(top, { isShared: false });
  assert.equal(file?.sizeBytes, top.narSize);
  const { ctimeMs } = await lstat(place);
  // the clock of a file system moves every few milliseconds: a change before that would have the same time
  do await chmod(place, 0o644);
  while ((await lstat(place)).ctimeMs === ctimeMs);
  await writeFile(place, 'other');
  await utimes(place, 1, 1);
  assert.equal(await offer.inNix(top, { isShared: false }), undefined);
});
