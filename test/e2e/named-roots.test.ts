/** Followers of a named root read its part of the hash map alone, and of the next edition only what is new. */
import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertSound, Lab, type RunningPublisher } from '../support/lab.ts';
import { WrittenCache, type WrittenPath } from '../support/written-cache.ts';

/** More paths than one shard holds. */
const OTHER_PATHS = 700;
const ROOT_PATHS = 60;

/** Returns the sizes of the shards and lists that a store has of its only hash map, by their names. */
async function filesOf(store: string): Promise<Map<string, number>> {
  const maps = join(store, 'narswarm', 'index');
  const [map = ''] = await readdir(maps);
  const shards = join(maps, map, 'shards');
  const names = await readdir(shards);
  return new Map(await Promise.all(names.map(async (name) => [name, (await stat(join(shards, name))).size] as const)));
}

const sum = (sizes: Iterable<number>): number => Array.from(sizes).reduce((total, size) => total + size, 0);

test('who fetches a named root reads its own shards, from the mirror or from members, and later what is new', async () => {
  await using lab = await Lab.open();
  const cache = await WrittenCache.create(await lab.folder('cache'), 'lab-1');
  const addAll = (count: number, name: string): Promise<WrittenPath[]> =>
    Promise.all(Array.from({ length: count }, (_, index) => cache.add(`${name}-${index}`)));
  const others = await addAll(OTHER_PATHS, 'other');
  const own = await addAll(ROOT_PATHS, 'own');
  const namesOf = (paths: readonly WrittenPath[]): string[] => paths.map(({ baseName }) => baseName);
  const rest = await cache.add('rest', { references: namesOf(others) });
  const root = await cache.add('desktop', { references: namesOf(own) });

  const dht = await lab.dht(3);
  const boot = `127.0.0.1:${String(dht.bootstrap[0]?.port)}`;
  const net = ['--listen', '127.0.0.1', '--no-lan', '--dht-bootstrap', boot];
  const key = ['--key', lab.path('publisher.key')];
  const publish = (path: WrittenPath): Promise<RunningPublisher> =>
    lab.publisher({ cacheDir: cache.dir, root: path.info.storePath, publicKey: cache.publicKey }, [
      '--root',
      `rest=${rest.info.storePath}`,
      ...net,
      ...key,
    ]);
  const fetch = async (store: string, publisher: string): Promise<Map<string, number>> => {
    const what = ['--publisher', publisher, '--trusted-public-key', cache.publicKey];
    const run = await lab.run(['fetch', 'lab', '--store', store, '--no-copy', ...what, ...net]);
    assert.equal(run.status, 0, run.stderr);
    await assertSound(store, cache.publicKey);
    return filesOf(store);
  };

  const publisher = await publish(root);
  const published = await readdir(join(cache.dir, 'narswarm', 'published', '0', 'shards'));
  const store = await lab.folder('store');
  const first = await fetch(store, publisher.mirror);
  assert.equal(first.size, 2, `a list and a shard: ${[...first.keys()].join(' ')}`);
  assert.ok(published.length > 30, 'the hash map has many more');
  const byMembers = await fetch(await lab.folder('other-store'), publisher.address);
  assert.deepEqual(byMembers, first);

  await publisher.process.stop();
  const changed = await cache.add('own-new');
  const next = await cache.add('desktop-new', { references: namesOf([...own.slice(1), changed]) });
  const again = await publish(next);
  const second = await fetch(store, again.mirror);
  const fresh = [...second].filter(([name]) => !first.has(name));
  assert.equal(fresh.length, 2, `a list and a shard: ${[...second.keys()].join(' ')}`);
  assert.ok(sum(fresh.map(([, size]) => size)) < sum(first.values()) / 3, 'the shard of unchanged records stays');
  assert.deepEqual(await fetch(store, again.address), second, 'nothing is read twice');
});
