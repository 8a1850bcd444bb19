/** Publishing leaves the newest edition on the disk for mirrors, and the newest two for peers. */
import assert from 'node:assert/strict';
import { readdir, readFile, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { mapFolder } from '../../../src/index/address.ts';
import { continues } from '../../../src/index/format/history.ts';
import { IndexDir } from '../../../src/index/files/index-dir.ts';
import { OfferedEditions } from '../../../src/index/files/editions.ts';
import { manifestName } from '../../../src/index/files/member-files.ts';
import { asFileHash } from '../../../src/nix/hash.ts';
import { publishIndex, type Publication } from '../../../src/publish/publication.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { emptyStore, tempDir } from '../../store/store-fixture.ts';
import { KEY, RECORDS } from '../fixtures.ts';

const publish = (store: FileStore, at: string): Promise<Publication> =>
  publishIndex({
    store,
    key: KEY,
    salt: '',
    records: RECORDS,
    roots: [],
    peers: [],
    now: new Date(at),
    validForMs: 60_000,
  });
const contents = (publication: Publication): Promise<Buffer[]> =>
  Promise.all(publication.seed.files.map(({ path }) => readFile(path)));

describe('editions of a hash map', () => {
  test('the files of an earlier edition stay unchanged while it is seeded', async (t) => {
    const store = await emptyStore(t);
    const first = await publish(store, '2026-02-01T12:00:00Z');
    const bytes = await contents(first);
    const second = await publish(store, '2026-02-01T13:00:00Z');
    assert.ok(second.isNew);
    assert.deepEqual(await contents(first), bytes);
    assert.notDeepEqual(await contents(second), bytes);
    assert.equal(second.dir.dir, first.dir.dir, 'a static server serves the same folder as before');
    assert.deepEqual(await second.dir.readManifest(), (await contents(second))[0]);
    assert.ok((await stat(second.seed.files[1]!.path)).nlink > 1, 'an unchanged file is on the disk once');
  });

  test('a damaged manifest does not end the history', async (t) => {
    const store = await emptyStore(t);
    const first = await publish(store, '2026-02-01T12:00:00Z');
    const second = await publish(store, '2026-02-01T13:00:00Z');
    const file = join(second.dir.dir, 'manifest');
    await truncate(file, 50);
    const again = await publish(store, '2026-02-01T13:00:01Z'); // nothing has changed
    assert.deepEqual(Buffer.from(again.manifestBytes), Buffer.from(second.manifestBytes));
    assert.deepEqual(await again.dir.readManifest(), Buffer.from(second.manifestBytes));
    await truncate(file, 50);
    const third = await publish(store, '2026-02-01T14:00:00Z');
    assert.ok(third.isNew);
    for (const { manifest, manifestBytes: bytes } of [first, second])
      assert.ok(continues({ manifest: third.manifest, bytes: third.manifestBytes }, { manifest, bytes }));
  });

  test('the newest two are kept on the disk and offered', async (t) => {
    const store = await emptyStore(t);
    const offered = new OfferedEditions();
    const all: Publication[] = [];
    for (const hour of ['12', '13', '14']) {
      const publication = await publish(store, `2026-02-01T${hour}:00:00Z`);
      all.push(publication);
      assert.ok(offered.add(publication.address, publication));
      assert.ok(!offered.add(publication.address, publication));
    }
    const [first, second, third] = all as [Publication, Publication, Publication];
    const dir = join(store.stateDir, 'generations', mapFolder(first.address));
    const names = [second, third].map(({ manifest, torrent }) => `${manifest.seq}-${torrent.infoHash}`);
    assert.deepEqual((await readdir(dir)).toSorted(), names.toSorted());
    assert.equal(offered.get(first.torrent.infoHash), undefined);
    assert.equal(offered.get(second.torrent.infoHash), second.seed);
    assert.equal(offered.get(third.torrent.infoHash), third.seed);
  });

  test('members are offered the manifest by the infohash, and each shard by its SHA-256', async (t) => {
    const store = await emptyStore(t);
    const offered = new OfferedEditions();
    const publication = await publish(store, '2026-02-01T12:00:00Z');
    const name = manifestName(publication.torrent.infoHash);
    const [entry] = publication.manifest.shards;
    assert.equal(await offered.manifest(name), undefined);
    offered.add(publication.address, publication);
    assert.deepEqual(Buffer.from((await offered.manifest(name)) ?? ''), (await contents(publication))[0]);
    assert.deepEqual(offered.shard(asFileHash(`sha256:${entry!.sha256}`)), publication.seed.files[1]);
    offered.remove(publication.address);
    assert.equal(await offered.manifest(name), undefined);
    assert.equal(offered.shard(asFileHash(`sha256:${entry!.sha256}`)), undefined);
  });

  test('an older manifest does not replace a newer one', async (t) => {
    const dir = new IndexDir(await tempDir(t));
    const isNewer = (bytes: number) => (there: Uint8Array) => (there[0] ?? 0) <= bytes;
    for (const seq of [5, 4, 6, 5]) await dir.writeManifest(Uint8Array.of(seq), isNewer(seq));
    assert.deepEqual(await dir.readManifest(), Buffer.of(6));
    assert.deepEqual(await readdir(dir.dir), ['manifest']);
  });
});
