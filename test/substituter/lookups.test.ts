import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { Lookups } from '../../src/substituter/lookups.ts';
import { NarInfoMemory } from '../../src/substituter/narinfo-memory.ts';

const hashOf = (index: number) => parseStoreHash(String(index).padStart(32, '0'));

test('while sources are silent, clients have a bounded number of paths looked up', async () => {
  let asked = 0;
  const find = (): Promise<undefined> => {
    asked++;
    return new Promise(() => undefined);
  };
  const memory = new NarInfoMemory();
  const lookups = new Lookups(find, () => false, memory, new AbortController().signal);
  const answers = Array.from({ length: 5_000 }, (_, index) => lookups.findWithin(1, hashOf(index)));
  assert.equal(asked, 2_048);
  assert.deepEqual(new Set(await Promise.all(answers)), new Set([undefined]));
  assert.ok(memory.isAbsent(hashOf(0)));
  assert.ok(!memory.isAbsent(hashOf(4_999)), 'nobody was asked for it');
});
