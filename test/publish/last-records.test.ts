/** A publisher of a whole store verifies the records that its last edition lacks, and no others. */
import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import {
  formatPublicKey,
  parsePublicKey,
  signNarInfo,
  type PublicKey,
  type SecretKey,
} from '../../src/nix/signature.ts';
import { storeHashOf, storePathFromBaseName } from '../../src/nix/store-path.ts';
import { buildPublication, type Built } from '../../src/publish/build-publication.ts';
import { publishedDir } from '../../src/publish/publication.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { emptyStore } from '../store/store-fixture.ts';

const COUNT = 40;
const SECRET: SecretKey = { name: 'lab-1', key: generateKeyPairSync('ed25519').privateKey };

/** Counts the narinfos that are verified. */
class Verified extends WeakSet<NarInfo> {
  count = 0;

  override add(info: NarInfo): this {
    this.count++;
    return super.add(info);
  }
}

/** A store of small uncompressed NARs, and its publisher. */
class Shop {
  readonly store: FileStore;

  private constructor(store: FileStore) {
    this.store = store;
  }

  static async open(t: TestContext, count = COUNT): Promise<Shop> {
    const shop = new Shop(await emptyStore(t));
    for (let number = 0; number < count; number++) await shop.put(number);
    return shop;
  }

  /** Puts a path into the store; a NAR that is there stays. @param change for its narinfo, after it was signed */
  async put(number: number, change: Partial<NarInfo> = {}): Promise<NarInfo> {
    const contents = Buffer.from(`the NAR ${number}`);
    const digest = createHash('sha256').update(contents).digest();
    const info: NarInfo = {
      storePath: storePathFromBaseName(`${encodeNix32(digest.subarray(0, 20))}-${number}`),
      url: `nar/${fileHashOf(digest)}.nar`,
      compression: 'none',
      fileHash: fileHashOf(digest),
      fileSize: contents.length,
      narHash: narHashOf(digest),
      narSize: contents.length,
      references: [],
      signatures: [],
      extra: [],
    };
    if ((await this.store.statNar(info)) === undefined) await writeFile(this.store.narPath(info), contents);
    const written = { ...info, signatures: [signNarInfo(info, SECRET)], ...change };
    await writeFile(this.store.narInfoPath(storeHashOf(info.storePath)), formatNarInfo(written));
    return info;
  }

  /** Publishes the store. @returns the edition, and how many narinfos were verified for it */
  async publish(
    options: { readonly salt?: string; readonly key?: PublicKey } = {},
  ): Promise<Built & { readonly verified: number }> {
    const verified = new Verified();
    const key = { ...(options.key ?? parsePublicKey(formatPublicKey(SECRET))), verified };
    const built = await buildPublication({
      store: this.store,
      key: publisherKeyFromSeed(Buffer.alloc(32, 7)),
      salt: options.salt ?? '',
      contents: () => Promise.resolve('everything'),
      keys: [key],
      validForMs: 3_600_000,
      hints: [],
      signal: new AbortController().signal,
    });
    return { ...built, verified: verified.count };
  }

  /** Checks that the edition has the same files as one that is built from nothing. */
  async assertAsFromNothing({ publication: { manifest } }: Built): Promise<void> {
    const { publication, verified } = await this.publish({ salt: 'from-nothing' });
    assert.ok(verified >= publication.manifest.recordCount);
    assert.deepEqual(manifest.shards, publication.manifest.shards);
    assert.equal(manifest.recordCount, publication.manifest.recordCount);
    await rm(publishedDir(this.store, 'from-nothing').dir, { recursive: true });
  }
}

describe('an edition of a whole store', () => {
  test('is the last one if nothing has changed, and nothing is verified for it', async (t) => {
    const shop = await Shop.open(t);
    const first = await shop.publish();
    assert.deepEqual([first.publication.manifest.recordCount, first.verified], [COUNT, COUNT]);
    const { publication, verified } = await shop.publish();
    assert.deepEqual([publication.isNew, publication.manifest.recordCount, verified], [false, COUNT, 0]);
    assert.equal(publication.torrent.infoHash, first.publication.torrent.infoHash);
  });

  test('has what is new and lacks what is gone, and only new paths are verified', async (t) => {
    const shop = await Shop.open(t);
    const gone = await shop.put(1);
    await shop.publish();
    await rm(shop.store.narInfoPath(storeHashOf(gone.storePath)));
    await shop.put(COUNT);
    const next = await shop.publish();
    assert.deepEqual([next.publication.isNew, next.publication.manifest.recordCount, next.verified], [true, COUNT, 1]);
    await shop.assertAsFromNothing(next);
  });

  test('lacks a path whose narinfo or NAR has changed', async (t) => {
    const shop = await Shop.open(t);
    await shop.publish();
    const forged = await shop.put(1, { narSize: 17 });
    const cut = await shop.put(2);
    await truncate(shop.store.narPath(cut), 3);
    const lost = await shop.put(3);
    await rm(shop.store.narPath(lost));
    const { leftOut, publication, ...next } = await shop.publish();
    assert.deepEqual(Object.fromEntries(leftOut.map(({ storePath, reason }) => [storePath, reason])), {
      [forged.storePath]: 'untrusted',
      [cut.storePath]: 'other-nar',
      [lost.storePath]: 'no-nar',
    });
    assert.equal(publication.manifest.recordCount, COUNT - 3);
    await shop.assertAsFromNothing({ leftOut, publication, ...next });
  });

  test('is verified again if other keys are trusted now', async (t) => {
    const shop = await Shop.open(t);
    await shop.publish();
    const { privateKey } = generateKeyPairSync('ed25519');
    const stranger = parsePublicKey(formatPublicKey({ name: 'lab-1', key: privateKey }));
    await assert.rejects(shop.publish({ key: stranger }), { code: 'NARINFO_UNTRUSTED' });
  });

  test('is built from nothing if files of the last one are damaged', async (t) => {
    const shop = await Shop.open(t);
    const { publication } = await shop.publish();
    const shards = join(publication.dir.dir, 'shards');
    const [name = ''] = await readdir(shards);
    const bytes = await readFile(join(shards, name));
    await writeFile(join(shards, name), 'damaged');
    await shop.put(COUNT);
    const next = await shop.publish();
    assert.equal(next.verified, COUNT + 1);
    await shop.assertAsFromNothing(next);
    assert.notDeepEqual(await readFile(join(shards, name)), bytes);
  });

  test('is divided as one from nothing when it has grown or shrunk', async (t) => {
    const shop = await Shop.open(t, 720);
    await shop.publish();
    const added: NarInfo[] = [];
    for (let number = 720; number < 730; number++) added.push(await shop.put(number));
    const grown = await shop.publish();
    assert.equal(grown.publication.manifest.prefixLength, 1);
    await shop.assertAsFromNothing(grown);
    for (const { storePath } of added) await rm(shop.store.narInfoPath(storeHashOf(storePath)));
    const shrunk = await shop.publish();
    assert.equal(shrunk.publication.manifest.prefixLength, 0);
    await shop.assertAsFromNothing(shrunk);
    await shop.put(720);
    assert.equal((await shop.publish()).verified, 1);
  });
});
