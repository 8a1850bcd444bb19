/** Listings of caches, some of which fail. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HttpClient } from '../../src/http/client.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import { Listings } from '../../src/mount/listings.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { infoOf } from '../fetch/narinfos.ts';
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
  for (const path of paths) assert.notEqual(await listings.find(path), undefined);
  const asked = new Set(broken.requests.map(({ url }) => url));
  assert.deepEqual([asked.size, good.requests.length], [2, NAMES.length]);
});

test('a cache without listings is asked for each', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-listings-'));
  t.after(() => rm(dir, { recursive: true }));
  await using bare = await startHttpCache(dir);
  await using http = new HttpClient({ backoffMs: 1 });
  const listings = new Listings([parseUpstream(bare.url)], http, new AbortController().signal);
  for (const name of NAMES) assert.equal(await listings.find(infoOf(name, [])), undefined);
  assert.equal(bare.requests.length, NAMES.length);
});
