import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { CommitFeed } from '../../../src/fetch/commit/commit-feed.ts';
import { Committer } from '../../../src/fetch/commit/commit.ts';
import type { StorePath } from '../../../src/nix/brands.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { parseStoreHash } from '../../../src/nix/store-path.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { LEAF, NOTE, TOP } from '../../nix/fixtures.ts';
import { filledStore, infoOf } from '../../store/store-fixture.ts';
import { closureOf } from '../walk/closure-of.ts';

interface Scene {
  readonly store: FileStore;
  readonly top: NarInfo;
  readonly leaf: NarInfo;
  readonly note: NarInfo;
  readonly feed: CommitFeed;
  /** Resolves with the paths of the next commit. */
  readonly committed: () => Promise<readonly StorePath[]>;
  readonly narInfosIn: () => Promise<string[]>;
}

/** Makes a store with the NARs of a closure and without its narinfos. `top` refers to itself and to the others. */
async function scene(t: TestContext, everyMs = 1): Promise<Scene> {
  const store = await filledStore(t);
  const infos: NarInfo[] = [];
  for (const hash of [TOP, LEAF, NOTE]) {
    infos.push(await infoOf(store, hash));
    await rm(store.narInfoPath(parseStoreHash(hash)));
  }
  const [top, leaf, note] = infos as [NarInfo, NarInfo, NarInfo];
  let next = Promise.withResolvers<readonly StorePath[]>();
  const feed = new CommitFeed(new Committer(store), {
    everyMs,
    tell: (event) => {
      if (event.type !== 'committed') return;
      next.resolve(event.paths);
      next = Promise.withResolvers();
    },
  });
  t.after(() => feed.end());
  return { store, top, leaf, note, feed, committed: () => next.promise, narInfosIn: () => store.listStoreHashes() };
}

test('a path is committed after its references, even if its NAR comes first', async (t) => {
  const { feed, top, leaf, note, committed, narInfosIn } = await scene(t);
  const first = committed();
  feed.add([top]);
  feed.add([leaf]);
  assert.deepEqual(await first, [leaf.storePath]);
  assert.deepEqual(await narInfosIn(), [LEAF]);
  const second = committed();
  feed.add([note]);
  assert.deepEqual(await second, [note.storePath, top.storePath]);
  assert.deepEqual(new Set(await narInfosIn()), new Set([TOP, LEAF, NOTE]));
});

test('nothing is committed after the end; the last commit writes the rest', async (t) => {
  const { store, feed, top, leaf, note, narInfosIn } = await scene(t, 60_000);
  feed.add([leaf, note]);
  await feed.end();
  feed.add([top]);
  assert.deepEqual(await narInfosIn(), []);
  await new Committer(store).commit(closureOf(leaf, note, top), []);
  assert.deepEqual(new Set(await narInfosIn()), new Set([TOP, LEAF, NOTE]));
});

test('a committed path is written again only if its file has changed', async (t) => {
  const { store, leaf, narInfosIn } = await scene(t);
  const committer = new Committer(store);
  await committer.commit(closureOf(leaf), []);
  await rm(store.narInfoPath(parseStoreHash(LEAF)));
  await committer.commit(closureOf(leaf), []);
  assert.deepEqual(await narInfosIn(), []);
  const signatures = [...leaf.signatures, 'other-1:b25l'];
  await new Committer(store).commit(closureOf(leaf), []);
  await committer.commit(closureOf({ ...leaf, signatures }), []);
  assert.deepEqual((await infoOf(store, LEAF)).signatures, signatures);
});

test('what waits at an early end is committed if that is wanted', async (t) => {
  const { feed, leaf, note, narInfosIn } = await scene(t, 1_000_000);
  feed.add([leaf, note]);
  await feed.end({ commits: true });
  assert.deepEqual(new Set(await narInfosIn()), new Set([LEAF, NOTE]));
});
