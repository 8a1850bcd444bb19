/** How long a fetch with other sources waits for publishers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HashMaps, type HashMapsContext } from '../../../src/fetch/sources/hash-maps.ts';

const unused = {} as Pick<HashMapsContext, 'store' | 'http'>;
const signal = new AbortController().signal;

test('publishers have 1.5 s from the start of the fetch, and half a second after a long walk', async () => {
  let nowMs = 7_000;
  await using maps = new HashMaps(
    { publishers: [], publisherTimeoutMs: 1, isOptional: true },
    { ...unused, network: undefined, signal, onWarning: () => undefined, now: () => nowMs },
  );
  assert.equal(maps.graceMs, 1_500);
  nowMs += 400;
  assert.equal(maps.graceMs, 1_100);
  nowMs += 10_000;
  assert.equal(maps.graceMs, 500);
});

test('after a wait in vain, the next fetch of the run does not wait', async () => {
  const never = new Promise<void>(() => undefined);
  await using maps = new HashMaps(
    { publishers: [], publisherTimeoutMs: 1, isOptional: true },
    { ...unused, network: undefined, signal, onWarning: () => undefined },
  );
  const first = sleep(LONG_BEFORE_GRACE_MS, 'still waiting');
  const late = maps.areLateFor(never);
  assert.equal(await Promise.race([late, first]), 'still waiting');
  assert.equal(await late, true);
  assert.equal(await Promise.race([maps.areLateFor(never), sleep(LONG_BEFORE_GRACE_MS, 'still waiting')]), true);
  assert.equal(await maps.areLateFor(Promise.resolve()), false);
});

/** Timers fire in the order of their times, however slow the machine is. */
const LONG_BEFORE_GRACE_MS = 200;
