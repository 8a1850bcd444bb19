/** How long a fetch with other sources waits for publishers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HashMaps, type HashMapsContext } from '../../src/fetch/hash-maps.ts';

test('publishers have 1.5 s from the start of the fetch, and half a second after a long walk', async () => {
  let nowMs = 7_000;
  const unused = {} as Pick<HashMapsContext, 'store' | 'http'>;
  await using maps = new HashMaps(
    { publishers: [], publisherTimeoutMs: 1, isOptional: true },
    {
      ...unused,
      network: undefined,
      signal: new AbortController().signal,
      onWarning: () => undefined,
      now: () => nowMs,
    },
  );
  assert.equal(maps.graceMs, 1_500);
  nowMs += 400;
  assert.equal(maps.graceMs, 1_100);
  nowMs += 10_000;
  assert.equal(maps.graceMs, 500);
});
