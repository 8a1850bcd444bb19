import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { completePart } from '../../../src/fetch/walk/closure.ts';
import { CompletePaths } from '../../../src/fetch/walk/complete-paths.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { storeHashOf } from '../../../src/nix/store-path.ts';
import { closureOf } from './closure-of.ts';
import { hashOf, infoOf } from './narinfos.ts';

/** Returns the names of complete paths, in the order in which they are known to be. */
function completeOf(infos: readonly NarInfo[]): string[] {
  const complete = new CompletePaths();
  const names: string[] = [];
  for (const info of infos) complete.take(info, () => names.push(info.storePath.slice(44)));
  return names;
}

test('a path is complete once all that it reaches is found', () => {
  const [a, b, c] = [infoOf('a', ['a', 'b', 'c']), infoOf('b', ['c']), infoOf('c')];
  assert.deepEqual(completeOf([a, b]), []);
  assert.deepEqual(completeOf([a, b, c]), ['c', 'b', 'a']);
  assert.deepEqual(completeOf([c, a, b]), ['c', 'b', 'a']);
  assert.deepEqual(completeOf([infoOf('a', ['b', 'b']), infoOf('b')]), ['b', 'a']);
});

test('a long chain of references does not exhaust the stack', () => {
  const chain = Array.from({ length: 20_000 }, (_, at) => infoOf(`p${at}`, [`p${at + 1}`]));
  assert.equal(completeOf([...chain, infoOf('p20000')]).length, 20_001);
});

test('in any order of finding, these are the paths that the plan will have', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
  const graph = fc.record({
    references: fc.array(fc.subarray(names), { minLength: names.length, maxLength: names.length }),
    order: fc.shuffledSubarray(names),
  });
  fc.assert(
    fc.property(graph, ({ references, order }) => {
      // Each refers to later ones and itself, since Nix makes no cycles.
      const infos = new Map(
        names.map((name, at) => [
          name,
          infoOf(
            name,
            (references[at] ?? []).filter((one) => one >= name),
          ),
        ]),
      );
      const found = order.flatMap((name) => infos.get(name) ?? []);
      const missing = new Set(names.filter((name) => !order.includes(name)).map(hashOf));
      const planned = completePart(closureOf(...found), missing);
      const complete = new Set(completeOf(found).map(hashOf));
      assert.deepEqual(complete, new Set(Array.from(planned.values(), ({ storePath }) => storeHashOf(storePath))));
    }),
  );
});
