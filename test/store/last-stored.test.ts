import assert from 'node:assert/strict';
import { rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { InfoHash } from '../../src/nix/brands.ts';
import { forgetServed, LastServed, readLastServed } from '../../src/store/catalogue/last-served.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import type { Seed } from '../../src/swarm/swarm.ts';
import { describeNar } from '../../src/store/hashing/describe-nar.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { LEAF } from '../nix/fixtures.ts';
import { filledStore, infoOf } from './store-fixture.ts';
import type { Warning } from '../../src/warning.ts';

async function names(store: FileStore): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of readLastServed(store)) found.push(name);
  return found;
}

test('notes a served NAR at most once in five minutes, and leaves the NAR unchanged', async (t) => {
  const store = await filledStore(t);
  const { torrent } = await describeNar(store, parseStoreHash(LEAF));
  const path = store.narPath(await infoOf(store, LEAF));
  const seed: Seed = { torrent, files: [{ path, sizeBytes: torrent.sizeBytes }] };
  const warnings: Warning[] = [];
  const served = new LastServed(store, (warning) => warnings.push(warning));
  const seeds = served.noting((infoHash) => Promise.resolve(infoHash === torrent.infoHash ? seed : undefined));
  const before = await stat(path);
  assert.equal(await seeds('a'.repeat(40) as InfoHash), undefined);
  assert.deepEqual(await names(store), []);

  assert.equal(await seeds(torrent.infoHash), seed);
  await served.flush();
  const { name } = torrent;
  assert.deepEqual(await names(store), [name]);
  const { mtimeMs, atimeMs, ctimeMs } = await stat(path);
  assert.deepEqual(
    { mtimeMs, atimeMs, ctimeMs },
    {
      mtimeMs: before.mtimeMs,
      atimeMs: before.atimeMs,
      ctimeMs: before.ctimeMs,
    },
  );

  const mark = join(store.stateDir, 'served', name);
  await utimes(mark, 1, 1);
  await seeds(torrent.infoHash);
  await served.flush();
  assert.equal((await stat(mark)).mtimeMs, 1000, 'not again so soon');
  const other = new LastServed(store, (warning) => warnings.push(warning));
  await other.noting(() => Promise.resolve(seed))(torrent.infoHash);
  await other.flush();
  assert.ok((await stat(mark)).mtimeMs > 1000);
  await forgetServed(store, name);
  await forgetServed(store, name);
  assert.deepEqual(await names(store), []);
  assert.deepEqual(warnings, []);
});

test('notes a large NAR during its upload, and serving continues if notes cannot be written', async (t) => {
  const store = await filledStore(t);
  const { torrent } = await describeNar(store, parseStoreHash(LEAF));
  const large = { ...torrent, pieceLength: 1 };
  const seed: Seed = { torrent: large, files: [{ path: `/${torrent.name}`, sizeBytes: torrent.sizeBytes }] };
  const warnings: Warning[] = [];
  const nowhere = Object.create(store, {
    stateDir: { value: join(store.dir, 'nix-cache-info', 'below-a-file') },
  }) as FileStore;
  const served = new LastServed(nowhere, (warning) => warnings.push(warning));
  const seeds = served.noting(() => Promise.resolve(seed));
  assert.equal(await seeds(large.infoHash), seed);
  await served.flush();
  served.note('another');
  await served.flush();
  assert.equal(warnings.length, 1);
  served.onUpload(large.infoHash);
  served.onUpload('b'.repeat(40) as InfoHash);
  await rm(join(store.stateDir, 'served'), { recursive: true, force: true });
});
