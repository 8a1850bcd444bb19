import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { NarInfoSource } from '../../src/fetch/sources/narinfo-sources.ts';
import { inTurns } from '../../src/substituter/in-turns.ts';
import { hashOf, infoOf } from '../fetch/walk/narinfos.ts';

const NAMES = Array.from({ length: 20 }, (_, index) => `p${index}`);
const { signal } = new AbortController();

suite('narinfos of a look-ahead', () => {
  for (const [what, source] of [
    ['that arrive together', { name: 'cache', find: async () => infoOf('a') }],
    ['that are at hand', { name: 'map', peek: () => infoOf('a'), find: () => assert.fail() }],
  ] satisfies [string, NarInfoSource][])
    test(`${what} come one in each turn of the event loop, so that others get theirs between them`, async () => {
      const [one, other] = inTurns(() => [source, { ...source }])();
      let turn = 0;
      const all = NAMES.map(async (name, index) => {
        assert.equal(one?.peek?.(hashOf(name)), undefined);
        await (index % 2 === 0 ? one : other)?.find(hashOf(name), signal);
        return turn;
      });
      for (; turn < 10 * NAMES.length; turn++) await nextTurn();
      assert.equal(new Set(await Promise.all(all)).size, NAMES.length);
    });

  test('that a source is known to lack are not waited for, and a source stays the same one', async () => {
    const source: NarInfoSource = { name: 'map', peek: () => 'absent', find: async () => undefined };
    const sources = inTurns(() => [source]);
    assert.equal(sources()[0]?.peek?.(hashOf('a')), 'absent');
    assert.equal(sources()[0], sources()[0]);
  });
});
