/** Listings of caches, some of which fail. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HttpClient } from '../../src/http/client.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import { MAX_LISTING_BYTES } from '../../src/mount/listing.ts';
import { Listings } from '../../src/mount/listings.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { infoOf } from '../fetch/walk/narinfos.ts';
import { startHttpCache } from '../support/http-cache.ts';

const NAMES = ['a', 'b', 'c', 'd'] as const;

test('a cache that fails twice is asked for no further listing, and the next one is asked at once', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-listings-'));
  t.after(() => rm(dir, { recursive: true }));
  const paths = NAMES.map((name) => infoOf(name, []));
  for (const { storePath } of paths)
    await writeFile(join(dir, `${storeHashOf(storePath)}.ls`), '{"version":1,"root":{"type":"regular","size":5}}');
  await using broken = await startHttpCache(dir);
  await using good = await startHttpCache(dir);
  broken.faults = [{ kind: 'status', status: 500 }];
  await using http = new HttpClient({ backoffMs: 1 });
  const upstreams = [broken.url, good.url].map((url) => parseUpstream(url));
  const listings = new Listings(upstreams, http, new AbortController().signal);
  for (const path of paths) assert.equal(await listings.find(path, async () => undefined), true);
  const asked = new Set(broken.requests.map(({ url }) => url));
  assert.deepEqual([asked.size, good.requests.length], [2, NAMES.length]);
});

test('a cache without listings is asked for each', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-listings-'));
  t.after(() => rm(dir, { recursive: true }));
  await using bare = await startHttpCache(dir);
  await using http = new HttpClient({ backoffMs: 1 });
  const listings = new Listings([parseUpstream(bare.url)], http, new AbortController().signal);
  const find = (name: string): Promise<boolean> => listings.find(infoOf(name, []), () => assert.fail());
  for (const name of NAMES) assert.equal(await find(name), false);
  assert.equal(bare.requests.length, NAMES.length);
});

test('listings are open at once as far as their bytes are within the limit', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-listings-'));
  t.after(() => rm(dir, { recursive: true }));
  const large = NAMES.map((name) => infoOf(name, [], { narSize: MAX_LISTING_BYTES }));
  for (const { storePath } of large)
    await writeFile(join(dir, `${storeHashOf(storePath)}.ls`), '{"version":1,"root":{"type":"regular","size":5}}');
  await using cache = await startHttpCache(dir);
  await using http = new HttpClient();
  const listings = new Listings([parseUpstream(cache.url)], http, new AbortController().signal);
  const open: (() => void)[] = [];
  const opened = new EventEmitter<{ listing: [] }>();
  const take = (): Promise<void> =>
    new Promise((close) => {
      open.push(close);
      opened.emit('listing');
    });
  const finds = large.map((info) => listings.find(info, take));
  while (open.length < 2) await once(opened, 'listing');
  assert.equal(cache.requests.length, 2);
  for (let closed = 0; closed < NAMES.length; closed++) {
    while (open.length === closed) await once(opened, 'listing');
    assert.ok(cache.requests.length <= closed + 2, 'no other listing is asked for before one is put away');
    open[closed]?.();
  }
  assert.deepEqual(await Promise.all(finds), [true, true, true, true]);
});
