/** A hash map whose pointer and manifest are known while nobody serves its records. */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { startHttpCache } from '../support/http-cache.ts';
import { assertSound, Lab, type Run } from '../support/lab.ts';

test('a fetch continues with the upstream if nobody has the shard', async () => {
  await using lab = await Lab.open();
  const made = await lab.closure([60_000]);
  const dht = await lab.dht(3);
  const boot = `127.0.0.1:${String(dht.bootstrap[0]?.port)}`;
  const net = ['--listen', '127.0.0.1', '--no-lan', '--dht-bootstrap', boot];
  const publisher = await lab.publisher(made, net);
  const upstream = lab.use(await startHttpCache(made.cacheDir));
  const store = await lab.folder('store');
  const what = ['--publisher', publisher.address, '--from', upstream.url, '--trusted-public-key', made.publicKey];
  const fetch = (): Promise<Run> => lab.run(['fetch', made.root, '--store', store, '--no-copy', ...what, ...net]);
  const first = await fetch();
  assert.equal(first.status, 0, first.stderr);
  await publisher.process.stop();

  // as after a crash between manifest and shard
  const maps = join(store, 'narswarm', 'index');
  for (const map of await readdir(maps)) await rm(join(maps, map, 'shards'), { recursive: true, force: true });
  for (const name of await readdir(store)) {
    if (name.endsWith('.narinfo') || name === 'nar') await rm(join(store, name), { recursive: true });
  }
  const second = await fetch();
  assert.equal(second.status, 0, second.stderr);
  // A shard is given up after ten seconds. How long the rest takes depends on the machine.
  assert.ok(second.durationMs < first.durationMs + 8_000, 'sooner than the shard is given up');
  await assertSound(store, made.publicKey);
});
