import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
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

test('a silent source costs a client its time once, and later questions little, until it answers', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const waiting = new Map<string, PromiseWithResolvers<undefined>>();
  const find = (hash: string): Promise<undefined> => {
    const answer = Promise.withResolvers<undefined>();
    waiting.set(hash, answer);
    return answer.promise;
  };
  const lookups = new Lookups(find, () => false, new NarInfoMemory(), new AbortController().signal);
  const ended = new Set<number>();
  const ask = (index: number): Promise<unknown> =>
    lookups.findWithin(4_000, hashOf(index)).then(() => ended.add(index));
  const pass = async (ms: number): Promise<void> => {
    t.mock.timers.tick(ms);
    await setImmediate();
  };
  void ask(0);
  await pass(3_999);
  assert.ok(!ended.has(0));
  await pass(1);
  void ask(1);
  await pass(500);
  assert.deepEqual([...ended], [0, 1]);
  waiting.get(hashOf(0))?.resolve(undefined); // too late for this client
  await setImmediate();
  void ask(2);
  await pass(3_999);
  assert.ok(!ended.has(2));
});
