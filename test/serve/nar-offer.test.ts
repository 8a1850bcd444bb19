/** Each test removes one condition of the offer to members, and the NAR is no longer announced or served. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { appendFile, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { prefixOf, type FilePrefix } from '../../src/exchange/messages/messages.ts';
import { PieceSet } from '../../src/exchange/messages/piece-set.ts';
import { buildIndex, writeIndex } from '../index/built-index.ts';
import { seedEdition } from '../../src/index/files/editions.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { asFileHash } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import type { PublicKey } from '../../src/nix/signature.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { StoreOffer } from '../../src/serve/store-offer.ts';
import { describeNar } from '../../src/store/hashing/describe-nar.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import type { CatalogueEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { readLastServed } from '../../src/store/catalogue/last-served.ts';
import { GOLDEN, KEY as MAP_KEY, NOW } from '../index/fixtures.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { entryFor, filledStore, infoOf, KEY, unchecked } from '../store/store-fixture.ts';
import { judgedOffer } from './offer-fixture.ts';

interface Scene {
  readonly store: FileStore;
  readonly offer: StoreOffer;
  readonly entry: CatalogueEntry;
  readonly prefix: FilePrefix;
  readonly info: NarInfo;
  readonly bytes: Buffer;
}

/** Makes a store with a requested path, and its offer. */
async function scene(
  t: TestContext,
  options: { shareKeys?: readonly PublicKey[]; isChecked?: boolean; askedFor?: boolean } = {},
): Promise<Scene> {
  const { shareKeys = [KEY], isChecked = true, askedFor = true } = options;
  const store = await filledStore(t);
  const offer = await StoreOffer.open({ store, keys: [KEY], shareKeys, onWarning: () => undefined });
  t.after(() => offer[Symbol.asyncDispose]());
  const entry = await entryFor(store, LEAF);
  if (askedFor) await offer.catalogue.add([isChecked ? entry : unchecked(entry)]);
  const info = await infoOf(store, LEAF);
  return { store, offer, entry, prefix: prefixOf(entry.fileHash), info, bytes: await readFile(store.narPath(info)) };
}

/** Waits until the offer says that it holds a file. */
async function untilHeld({ offer, prefix }: Scene): Promise<void> {
  while (offer.forMembers.holds(prefix) !== 'whole') await once(offer.forMembers, 'news');
}

const ASKED = { address: '127.0.0.1:1', from: 0, length: 10 };

/** Returns the answer to a member that requests the first bytes of the file. */
async function firstBytes({ offer, entry }: Scene): Promise<Buffer | string> {
  const opened = await offer.forMembers.open(entry.fileHash, ASKED);
  if (typeof opened === 'string') return opened;
  await using file = opened;
  const target = Buffer.alloc(10);
  await file.read(target, 0);
  return target;
}

test('announces and serves a requested, shared and sound NAR, and notes it', async (t) => {
  const one = await scene(t);
  await untilHeld(one);
  assert.deepEqual(await firstBytes(one), one.bytes.subarray(0, 10));
  const opened = await one.offer.forMembers.open(one.prefix, ASKED);
  assert.ok(typeof opened !== 'string');
  assert.equal(opened.sizeBytes, one.bytes.length);
  await opened[Symbol.asyncDispose]();
  await one.offer[Symbol.asyncDispose]();
  for await (const { name } of readLastServed(one.store)) assert.match(name, new RegExp(one.entry.fileHash));
});

test('checks unchecked contents before it announces them', async (t) => {
  const one = await scene(t, { isChecked: false });
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  await untilHeld(one);
  assert.deepEqual(await firstBytes(one), one.bytes.subarray(0, 10));
});

test('announces a NAR that a fetch of another process adds', async (t) => {
  const one = await scene(t, { askedFor: false });
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  const news = once(one.offer.forMembers, 'news');
  await one.offer.catalogue.add([one.entry]);
  assert.deepEqual(await news, [one.prefix]);
  await untilHeld(one);
});

test('neither announces nor serves a NAR that nobody requested', async (t) => {
  const one = await scene(t, { askedFor: false });
  await assertWithheld(one);
});

test('neither announces nor serves a NAR without a signature of a share-key, nor its narinfo', async (t) => {
  const one = await scene(t, { shareKeys: [] });
  await assertWithheld(one);
  assert.equal(await one.offer.forMembers.narInfo(parseStoreHash(LEAF)), undefined);
});

test('neither announces nor serves other contents than the signed ones', async (t) => {
  const one = await scene(t, { askedFor: false });
  await one.offer.catalogue.add([{ ...one.entry, narHash: (await infoOf(one.store, TOP)).narHash }]);
  await assertWithheld(one);
});

test('no longer serves a changed file', async (t) => {
  const one = await scene(t);
  await untilHeld(one);
  await appendFile(one.store.narPath(one.info), 'more');
  assert.equal(await firstBytes(one), 'absent');
});

test('no longer serves a missing file, or one without its narinfo', async (t) => {
  for (const path of [({ store }: Scene) => store.narInfoPath(parseStoreHash(LEAF)), narPath]) {
    const one = await scene(t);
    await untilHeld(one);
    await rm(path(one));
    assert.equal(await firstBytes(one), 'absent');
  }
});

test('serves narinfos signed by a share-key, unchanged, but no damaged, swapped and unsigned ones', async (t) => {
  const { store, offer } = await scene(t);
  const narInfo = (hash: string): Promise<string | undefined> => offer.forMembers.narInfo(parseStoreHash(hash));
  const text = await readFile(store.narInfoPath(parseStoreHash(LEAF)), 'utf8');
  assert.equal(await narInfo(LEAF), text);
  assert.equal(await narInfo('a'.repeat(32)), undefined);
  await writeFile(store.narInfoPath(parseStoreHash(TOP)), text);
  assert.equal(await narInfo(TOP), undefined);
  const note = await infoOf(store, NOTE);
  await writeFile(store.narInfoPath(parseStoreHash(NOTE)), formatNarInfo({ ...note, signatures: [], ca: '' }));
  assert.equal(await narInfo(NOTE), undefined);
  await writeFile(store.narInfoPath(parseStoreHash(LEAF)), text.slice(0, 100));
  assert.equal(await narInfo(LEAF), undefined);
});

test('looks into a NAR that it withholds, and into a narinfo, once for everybody who asks', async (t) => {
  const store = await filledStore(t);
  const catalogue = await Catalogue.open(store);
  const entry = await entryFor(store, LEAF);
  await catalogue.add([entry]);
  for (const isShared of [true, false]) {
    const { offer, judged } = judgedOffer(t, { store, catalogue }, { isShared });
    for (let times = 0; times < 3; times++)
      assert.equal((await offer.narInfo(parseStoreHash(LEAF))) !== undefined, isShared);
    assert.equal(judged(), 1);
    for (let times = 0; times < 3; times++) {
      const opened = await offer.open(entry.fileHash, ASKED);
      assert.equal(typeof opened !== 'string', isShared);
      if (typeof opened !== 'string') await opened[Symbol.asyncDispose]();
    }
    assert.equal(judged(), 2);
  }
});

test('judges a narinfo again after it was replaced', async (t) => {
  const { store, offer } = await scene(t);
  const path = store.narInfoPath(parseStoreHash(LEAF));
  assert.equal(await offer.forMembers.narInfo(parseStoreHash(LEAF)), await readFile(path, 'utf8'));
  const info = await infoOf(store, LEAF);
  await writeFile(path, formatNarInfo({ ...info, narSize: info.narSize + 1 })); // not signed
  assert.equal(await offer.forMembers.narInfo(parseStoreHash(LEAF)), undefined);
});

test('serves members a NAR of a running fetch at once, if it came only from members', async (t) => {
  const one = await scene(t, { askedFor: false });
  const news = once(one.offer.forMembers, 'news');
  const { fileHash, sizeBytes } = one.entry;
  const path = narPath(one);
  // The contents are not the signed ones. They are not checked, since the group has these bytes.
  one.offer.held.add({ fileHash, sizeBytes, path, info: await infoOf(one.store, NOTE), isOfMembers: true });
  await news;
  await untilHeld(one);
  assert.deepEqual(await firstBytes(one), one.bytes.subarray(0, 10));
  const { torrent } = await describeNar(one.store, parseStoreHash(LEAF));
  one.offer.held.add({ fileHash, sizeBytes, torrent, path, info: await infoOf(one.store, NOTE), isOfMembers: true });
  assert.equal(await one.offer.held.seed(torrent.infoHash), undefined, 'everybody else gets what was looked into');
});

test('checks a NAR of a running fetch first, if it came from elsewhere', async (t) => {
  const one = await scene(t, { askedFor: false });
  const { fileHash, sizeBytes } = one.entry;
  one.offer.held.add({ fileHash, sizeBytes, path: narPath(one), info: await infoOf(one.store, NOTE) });
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  one.offer.held.add({ fileHash, sizeBytes, path: narPath(one), info: one.info });
  await untilHeld(one);
});

test('announces and serves verified pieces of an arriving NAR, if it is shared', async (t) => {
  for (const shareKeys of [[KEY], []]) {
    const one = await scene(t, { askedFor: false, shareKeys });
    const { forMembers, held } = one.offer;
    const read = async (offset: number, length: number): Promise<Uint8Array> => Buffer.alloc(length, offset);
    const told: number[] = [];
    forMembers.on('piece', (_prefix, index) => told.push(index));
    const sizeBytes = 750_000;
    const begun = held.begin({ fileHash: one.entry.fileHash, sizeBytes, info: one.info, read });
    const first = shareKeys.length === 0 ? held.isShared(one.info) : once(forMembers, 'piece');
    begun.add(1);
    await first;
    begun.add(0);
    const range = { address: '', from: 262_144, length: 1000 };
    const opened = await forMembers.open(one.prefix, range);
    if (shareKeys.length === 0) {
      assert.deepEqual([told, opened], [[], 'absent']);
      continue;
    }
    assert.deepEqual(told, [1, 0]);
    assert.ok(forMembers.holds(one.prefix) instanceof PieceSet);
    assert.ok(typeof opened !== 'string');
    const target = Buffer.alloc(1000);
    await opened.read(target, 7);
    assert.deepEqual(target, Buffer.alloc(1000, 7));
    assert.equal(await forMembers.open(one.prefix, { ...range, length: 262_145 }), 'absent');
    begun.end();
    assert.equal(forMembers.holds(one.prefix), undefined);
    assert.equal(await forMembers.open(one.prefix, range), 'absent');
  }
});

function narPath({ store, info }: Scene): string {
  return store.narPath(info);
}

async function assertWithheld(one: Scene): Promise<void> {
  const told: unknown[] = [];
  one.offer.forMembers.on('news', (prefix) => told.push(prefix));
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  assert.equal(await firstBytes(one), 'absent');
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  assert.deepEqual(told, []);
}

test('stops giving a NAR and its narinfo if nobody follows the hash map that lists it any longer', async (t) => {
  const one = await scene(t, { shareKeys: [] });
  const { forMembers } = one.offer;
  const map = new IndexDir(join(one.store.stateDir, 'index', 'map'));
  await writeIndex(map, await buildIndex(GOLDEN));
  await untilHeld(one);
  assert.notEqual(await forMembers.narInfo(parseStoreHash(LEAF)), undefined);
  await map.setFollowed(false);
  while (forMembers.holds(one.prefix) !== undefined) await sleep(20);
  assert.equal(await forMembers.open(one.entry.fileHash, ASKED), 'absent');
  assert.equal(await forMembers.narInfo(parseStoreHash(LEAF)), undefined);
});

test('gives the files of an edition that is offered, and of no other', async (t) => {
  const one = await scene(t);
  const index = await buildIndex(GOLDEN);
  const dir = new IndexDir(join(one.store.stateDir, 'index', 'a-map'));
  await writeIndex(dir, index);
  const manifest = parseManifest(index.manifest, { publicKey: MAP_KEY.publicKey, now: NOW });
  const publicKeyHex = Buffer.from(MAP_KEY.publicKey).toString('hex');
  const address = { publicKey: MAP_KEY.publicKey, publicKeyHex, salt: '' };
  const edition = await seedEdition(one.store, { address, manifest, bytes: index.manifest, dir });
  const shard = asFileHash(`sha256:${manifest.shards[0]!.sha256}`);
  assert.equal(await one.offer.forMembers.open(shard, ASKED), 'absent');
  assert.equal(await one.offer.forMembers.narInfo(edition.name), undefined);
  one.offer.maps.add(address, edition);
  const opened = await one.offer.forMembers.open(shard, ASKED);
  assert.ok(typeof opened !== 'string');
  await using file = opened;
  assert.equal(file.sizeBytes, manifest.shards[0]!.sizeBytes);
  assert.deepEqual(Buffer.from((await one.offer.forMembers.narInfo(edition.name)) ?? ''), Buffer.from(index.manifest));
});

test('announces a file no longer as soon as it is removed, nor gives its narinfo', async (t) => {
  const one = await scene(t);
  await untilHeld(one);
  assert.notEqual(await one.offer.forMembers.narInfo(parseStoreHash(LEAF)), undefined);
  await rm(narPath(one));
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  assert.equal(await one.offer.forMembers.narInfo(parseStoreHash(LEAF)), undefined);
  assert.equal(await firstBytes(one), 'absent');
});

test('gives no byte of a file that is damaged, also if it was open before', async (t) => {
  const one = await scene(t);
  await untilHeld(one);
  const opened = await one.offer.forMembers.open(one.entry.fileHash, ASKED);
  assert.ok(typeof opened !== 'string');
  await using file = opened;
  await damage(one);
  await assert.rejects(file.read(Buffer.alloc(10), 0), RangeError);
  assert.equal(await firstBytes(one), 'absent');
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  assert.equal(await one.offer.forMembers.narInfo(parseStoreHash(LEAF)), undefined);
});

test('checks a file with another time again, and then announces it', async (t) => {
  const one = await scene(t);
  await untilHeld(one);
  await utimes(narPath(one), 1_000, 1_000);
  assert.equal(one.offer.forMembers.holds(one.prefix), undefined);
  await untilHeld(one);
  assert.deepEqual(await firstBytes(one), one.bytes.subarray(0, 10));
});

/** Flips a bit of the file. */
async function damage(one: Scene): Promise<void> {
  const bytes = Buffer.from(one.bytes);
  bytes[5]! ^= 1;
  await writeFile(narPath(one), bytes);
  await utimes(narPath(one), 1_000, 1_000); // the clock may not have moved on since it was made
}
