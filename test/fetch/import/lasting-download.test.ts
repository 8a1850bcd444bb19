import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLasting, leftMs } from '../../../src/fetch/import/lasting-download.ts';

const never = new AbortController().signal;

test('a download lasts as soon as much of it is left', async () => {
  const looks: number[] = [];
  const left = (passedMs: number): number => {
    looks.push(passedMs);
    return leftMs(10, 1_000, passedMs);
  };
  assert.equal(await isLasting(10_000, left, never), true);
  assert.deepEqual(looks, [0, 250]);
});

test('a download lasts once it has lasted, whatever the estimate', async () => {
  const looks: number[] = [];
  const left = (passedMs: number): number => {
    looks.push(passedMs);
    return 10;
  };
  assert.equal(await isLasting(700, left, never), true);
  assert.deepEqual(looks, [0, 250, 500]);
});

test('a download that ends soon does not last', async () => {
  const ended = new AbortController();
  const left = (passedMs: number): number => {
    if (passedMs > 0) ended.abort();
    return leftMs(100, 100, passedMs);
  };
  assert.equal(await isLasting(10_000, left, ended.signal), false);
});

test('without a byte nothing is known about the time left', () => assert.equal(leftMs(0, 100, 250), 0));
