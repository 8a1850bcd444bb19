import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CacheProbes } from '../../../src/fetch/sources/cache-probes.ts';

const urls = (count: number, name: string): string[] => Array.from({ length: count }, (_, at) => `http://${name}${at}`);

test('probes each announced cache once, until it may be tried again', () => {
  const probes = new CacheProbes({ againMs: 1000 });
  assert.deepEqual(probes.choose(['http://a', 'http://b', 'http://a'], 0), ['http://a', 'http://b']);
  probes.noteUsed('http://a');
  assert.deepEqual(probes.choose(['http://a', 'http://b'], 999), []);
  assert.deepEqual(probes.choose(['http://a', 'http://b'], 1000), ['http://b']);
  assert.deepEqual(probes.choose(['http://a', 'http://b'], 5000), ['http://b']);
});

test('many false caches delay the probe of another one only for a while', () => {
  const probes = new CacheProbes({ againMs: 1000 });
  const announced = [...urls(60, 'false'), 'http://right'];
  assert.deepEqual(probes.choose(announced, 0), urls(32, 'false'));
  assert.deepEqual(probes.choose(announced, 500), []);
  const next = probes.choose(announced, 1000);
  assert.equal(next.length, 32);
  assert.ok(next.includes('http://right'));
});

test('caches in use keep their places', () => {
  const probes = new CacheProbes({ againMs: 1000 });
  const right = urls(30, 'right');
  for (const url of probes.choose(right, 0)) probes.noteUsed(url);
  assert.deepEqual(probes.choose([...right, ...urls(9, 'false')], 2000), urls(2, 'false'));
});
