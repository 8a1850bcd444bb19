import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { referencesFirst, walkClosure, type FindNarInfo } from '../../../src/fetch/walk/closure.ts';
import type { StoreHash } from '../../../src/nix/brands.ts';
import { hashOf, infoOf } from './narinfos.ts';

/** Makes a source of narinfos from paths and their references. Counts its requests. */
function sourceOf(graph: Readonly<Record<string, readonly string[]>>) {
  const byHash = new Map(Object.entries(graph).map(([name, references]) => [hashOf(name), infoOf(name, references)]));
  const asked: StoreHash[] = [];
  let running = 0;
  let most = 0;
  const find: FindNarInfo = async (hash) => {
    asked.push(hash);
    most = Math.max(most, ++running);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    return byHash.get(hash);
  };
  return { find, asked, most: () => most };
}

const namesOf = (infos: Iterable<{ storePath: string }>): string[] =>
  Array.from(infos, ({ storePath }) => storePath.slice(44));

test('walks the paths that the roots reach, and no others', async () => {
  const { find } = sourceOf({ a: ['b', 'c'], b: ['c'], c: [], d: ['a'] });
  const closure = await walkClosure([hashOf('a')], find);
  assert.deepEqual(namesOf(closure.values()).toSorted(), ['a', 'b', 'c']);
  const both = await walkClosure([hashOf('b'), hashOf('d')], find);
  assert.deepEqual(namesOf(both.values()).toSorted(), ['a', 'b', 'c', 'd']);
});

test('asks once for each path, despite cycles and many ways to one path', async () => {
  const { find, asked } = sourceOf({ a: ['a', 'b', 'c', 'd'], b: ['c', 'a'], c: ['b', 'c', 'd'], d: ['d', 'a'] });
  const closure = await walkClosure([hashOf('a'), hashOf('a'), hashOf('c')], find);
  assert.equal(closure.size, 4);
  assert.equal(asked.length, 4);
  assert.equal(new Set(asked).size, 4);
});

test('walks breadth first', async () => {
  const { find, asked } = sourceOf({ a: ['b', 'c'], b: ['d'], c: ['e'], d: ['f'], e: [], f: [] });
  await walkClosure([hashOf('a')], find, { concurrency: 1 });
  assert.deepEqual(asked, ['a', 'b', 'c', 'd', 'e', 'f'].map(hashOf));
});

test('never has more open questions than it may', async () => {
  const leaves = Array.from({ length: 200 }, (_, index) => `leaf${index}`);
  const source = sourceOf({ a: leaves, ...Object.fromEntries(leaves.map((leaf) => [leaf, []])) });
  await walkClosure([hashOf('a')], source.find, { concurrency: 7 });
  assert.equal(source.most(), 7);
  await walkClosure([hashOf('a')], source.find);
  assert.equal(source.most(), 128);
});

test('a missing path is named with its referrer, and ends the walk', async () => {
  const leaves = Array.from({ length: 300 }, (_, index) => `leaf${index}`);
  const { find, asked } = sourceOf({ a: ['gone', ...leaves], ...Object.fromEntries(leaves.map((leaf) => [leaf, []])) });
  await assert.rejects(walkClosure([hashOf('a')], find, { concurrency: 4 }), {
    code: 'NARINFO_MISSING',
    message: new RegExp(`narinfo for ${hashOf('gone')}-gone, which /nix/store/${hashOf('a')}-a refers to`),
    facts: { path: `${hashOf('gone')}-gone`, referrer: `/nix/store/${hashOf('a')}-a` },
  });
  assert.ok(asked.length < 20, `${asked.length} were asked for after it had failed`);
});

test('a missing root is named without a referrer', async () => {
  const { find } = sourceOf({});
  await assert.rejects(walkClosure([hashOf('a')], find), {
    code: 'NARINFO_MISSING',
    message: new RegExp(`narinfo for ${hashOf('a')}: add the cache`),
  });
});

test('an error of the source ends the walk, and aborts the other questions', async () => {
  const failure = new Error('down');
  let stopped = false;
  const find: FindNarInfo = async (hash, signal) => {
    if (hash === hashOf('a')) return infoOf('a', ['b', 'c']);
    if (hash === hashOf('b')) throw failure;
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    stopped = true;
    return infoOf('c', []);
  };
  await assert.rejects(walkClosure([hashOf('a')], find), failure);
  assert.ok(stopped);
});

test('ends with the reason of its signal', async () => {
  const stop = new AbortController();
  const reason = new Error('enough');
  const find: FindNarInfo = async (_, signal) => {
    stop.abort(reason);
    signal.throwIfAborted();
    return undefined;
  };
  await assert.rejects(walkClosure([hashOf('a')], find, { signal: stop.signal }), reason);
  await assert.rejects(walkClosure([hashOf('a')], find, { signal: AbortSignal.abort(reason) }), reason);
});

test('any closure without cycles is ordered so that references come first', async () => {
  const graphs = fc.array(fc.array(fc.nat(), { maxLength: 5 }), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(graphs, async (edges) => {
      // Each path refers to some of those after it, and to itself.
      const entries = edges.map((targets, index) => {
        const later = targets.map((target) => index + 1 + (target % (edges.length - index)));
        const names = later.filter((target) => target < edges.length).map((target) => `p${target}`);
        return [`p${index}`, [...new Set([...names, `p${index}`])]] as const;
      });
      const { find } = sourceOf(Object.fromEntries(entries));
      const closure = await walkClosure(
        entries.map(([name]) => hashOf(name)),
        find,
      );
      const ordered = referencesFirst(closure);
      assert.equal(ordered.length, edges.length);
      const place = new Map(ordered.map((info, index) => [info.storePath.slice('/nix/store/'.length), index]));
      for (const [index, info] of ordered.entries())
        for (const reference of info.references) assert.ok((place.get(reference) ?? Infinity) <= index);
    }),
  );
});

test('a cycle is ordered, too, each path once', async () => {
  const { find } = sourceOf({ a: ['b'], b: ['c'], c: ['a', 'd'], d: [] });
  const ordered = namesOf(referencesFirst(await walkClosure([hashOf('a')], find)));
  assert.deepEqual(ordered.toSorted(), ['a', 'b', 'c', 'd']);
  assert.equal(ordered[0], 'd');
});

test('walks a chain that is longer than any stack', async () => {
  const length = 20_000;
  const entries = Array.from(
    { length },
    (_, index) => [`p${index}`, index + 1 < length ? [`p${index + 1}`] : []] as const,
  );
  const { find } = sourceOf(Object.fromEntries(entries));
  const ordered = referencesFirst(await walkClosure([hashOf('p0')], find));
  assert.equal(ordered.length, length);
  assert.equal(ordered[0]?.storePath, `/nix/store/${hashOf(`p${length - 1}`)}-p${length - 1}`);
});
