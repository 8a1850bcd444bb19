import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HeldNars } from '../../src/serve/held-nars.ts';
import { prefixOf } from '../../src/exchange/messages/messages.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { describeNar } from '../../src/store/hashing/describe-nar.ts';
import { LEAF, NOTE } from '../nix/fixtures.ts';
import { filledStore, infoOf, sharedBy } from '../store/store-fixture.ts';

test('serves a NAR of a running fetch once its contents are checked', { timeout: 180_000 }, async (t) => {
  const store = await filledStore(t);
  const [leaf, note] = [await infoOf(store, LEAF), await infoOf(store, NOTE)];
  const { torrent } = await describeNar(store, parseStoreHash(LEAF));
  const path = store.narPath(leaf);
  await using held = new HeldNars(sharedBy(store));
  held.add({ ...torrent, torrent, path, info: note }); // its source named another file
  assert.equal(await held.seed(torrent.infoHash), undefined);
  held.add({ ...torrent, torrent, path, info: leaf });
  let seed = await held.seed(torrent.infoHash);
  while (seed === undefined) seed = await held.seed(torrent.infoHash); // the check takes longer than a peer waits
  assert.deepEqual(seed.files, [{ path, sizeBytes: torrent.sizeBytes }]);
});

test('members hear of a NAR with other contents only if it came from members', { timeout: 180_000 }, async (t) => {
  const store = await filledStore(t);
  const [leaf, note] = [await infoOf(store, LEAF), await infoOf(store, NOTE)];
  const { torrent } = await describeNar(store, parseStoreHash(LEAF));
  const prefix = prefixOf(torrent.fileHash);
  const nar = { ...torrent, torrent, path: store.narPath(leaf), info: note };
  await using held = new HeldNars(sharedBy(store));
  held.add(nar);
  assert.equal(held.holds(prefix), undefined); // it is checked now
  assert.equal(await held.seed(torrent.infoHash), undefined);
  assert.equal(held.holds(prefix), undefined);
  held.add({ ...nar, isOfMembers: true });
  while (held.holds(prefix) === undefined) await sleep(5);
  assert.equal(await held.seed(torrent.infoHash), undefined);
});

test('does not serve a NAR of a running fetch that is not shared', async (t) => {
  const store = await filledStore(t);
  const info = await infoOf(store, LEAF);
  const { torrent } = await describeNar(store, parseStoreHash(LEAF));
  await using held = new HeldNars(sharedBy(store, []));
  held.add({ ...torrent, torrent, path: store.narPath(info), info });
  held.noteSound(info.storePath);
  assert.equal(await held.seed(torrent.infoHash), undefined);
});
