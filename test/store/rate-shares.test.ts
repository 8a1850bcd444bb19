import assert from 'node:assert/strict';
import { readdir, utimes, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { RateLimits } from '../../src/bytes/rate-limits.ts';
import type { RateLimit } from '../../src/bytes/rate-limit.ts';
import { RateShares } from '../../src/store/rate-shares.ts';
import { inState } from '../../src/store/state-folder.ts';
import { emptyStore } from './store-fixture.ts';

const RATE = 1_000_000;
const limits = (): RateLimits => new RateLimits({ download: [{ rateBytesPerSec: RATE }] }, () => true);
const downloadOf = (of: RateLimits): RateLimit => of.download.towards('');

test(
  'processes that use a limit at the same time take equal parts of it, and one alone all',
  { timeout: 180_000 },
  async (t) => {
    const store = await emptyStore(t);
    const [daemon, fetch] = [limits(), limits()];
    await using _daemon = await RateShares.open(store, daemon);
    {
      await using _fetch = await RateShares.open(store, fetch);
      downloadOf(fetch).take(1);
      while (downloadOf(daemon).rateBytesPerSec === RATE) await sleep(50);
      assert.equal(downloadOf(fetch).rateBytesPerSec, RATE, 'an idle daemon takes nothing');
      while (downloadOf(fetch).rateBytesPerSec === RATE) {
        for (const one of [daemon, fetch]) downloadOf(one).take(1);
        await sleep(50);
      }
      for (const one of [daemon, fetch]) assert.equal(downloadOf(one).rateBytesPerSec, RATE / 2);
    }
    while (downloadOf(daemon).rateBytesPerSec !== RATE) await sleep(50);
  },
);

test('limits are shared once a process, and nothing is written while they are idle, or there are none', async (t) => {
  const store = await emptyStore(t);
  const own = limits();
  await using _first = await RateShares.open(store, own);
  await using _second = await RateShares.open(store, own);
  await using _none = await RateShares.open(store, undefined);
  await sleep(1_500);
  assert.deepEqual(await readdir(inState(store, 'rates')).catch(() => []), []);
  assert.equal(own.claimForSharing(), undefined);
  assert.equal(downloadOf(own).rateBytesPerSec, RATE);
});

test('what a killed process or another machine has left is not counted', { timeout: 180_000 }, async (t) => {
  const store = await emptyStore(t);
  const own = limits();
  await using _own = await RateShares.open(store, own);
  downloadOf(own).take(1);
  const dir = inState(store, 'rates');
  let names: string[] = [];
  while (names.length === 0) {
    await sleep(50);
    names = await readdir(dir).catch(() => []);
  }
  const [owner = ''] = names[0]!.split('.');
  await writeFile(join(dir, `other${owner}.download`), '');
  const old = join(dir, `${owner}9.download`);
  await writeFile(old, '');
  const longAgo = new Date(Date.now() - 3_600_000);
  await utimes(old, longAgo, longAgo);
  while ((await readdir(dir)).includes(`${owner}9.download`)) await sleep(50);
  assert.equal(downloadOf(own).rateBytesPerSec, RATE);
});
