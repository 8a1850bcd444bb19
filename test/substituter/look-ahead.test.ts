/** Which paths are fetched before Nix asks for them. */
import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { narInfoWithoutNar } from '../../src/nix/path-info.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { LookAhead } from '../../src/substituter/look-ahead.ts';
import { infoOf } from '../fetch/walk/narinfos.ts';

/** @param valid those of the paths that the Nix store holds */
function scene(t: TestContext, paths: readonly NarInfo[], valid: readonly NarInfo[] = []) {
  const stop = new AbortController();
  t.after(() => stop.abort());
  const byHash = new Map(paths.map((info) => [storeHashOf(info.storePath), info]));
  const needed: string[] = [];
  const asked: string[] = [];
  const lookAhead = new LookAhead({
    find: async (hash) => {
      const info = byHash.get(hash);
      asked.push(info?.storePath ?? hash);
      return info !== undefined && valid.includes(info) ? narInfoWithoutNar(info) : info;
    },
    isValid: async (info) => valid.includes(info),
    onNeeded: (infos) => needed.push(...infos.map(({ storePath }) => storePath)),
    onValid: () => undefined,
    signal: stop.signal,
  });
  return { lookAhead, needed, asked };
}

suite('looking ahead', () => {
  test('takes the whole closure of a path, and each path once', async (t) => {
    const leaf = infoOf('leaf');
    const middle = infoOf('middle', ['leaf']);
    const top = infoOf('top', ['middle', 'leaf']);
    const { lookAhead, needed, asked } = scene(t, [leaf, middle, top]);
    await lookAhead.begin(top);
    await lookAhead.begin(middle);
    assert.deepEqual(needed.toSorted(), [leaf, middle, top].map(({ storePath }) => storePath).toSorted());
    assert.equal(asked.length, 3);
  });

  test('leaves out what the Nix store holds', async (t) => {
    const leaf = infoOf('leaf');
    const middle = infoOf('middle', ['leaf']);
    const top = infoOf('top', ['middle']);
    const { lookAhead, needed } = scene(t, [leaf, middle, top], [middle]);
    await lookAhead.begin(middle);
    assert.equal(needed.length, 0);
    await lookAhead.begin(top);
    assert.ok(!needed.includes(middle.storePath));
    assert.ok(needed.includes(top.storePath));
  });

  test('ends if somebody only asks which paths there are, until a NAR is wanted', async (t) => {
    const paths = Array.from({ length: 300 }, (_, index) => infoOf(`package-${index}`));
    const { lookAhead, needed } = scene(t, paths);
    for (const info of paths.slice(0, 200)) await lookAhead.begin(info);
    assert.equal(needed.length, 64);
    lookAhead.noteWanted();
    await lookAhead.begin(paths[250]!);
    assert.equal(needed.length, 65);
  });

  test('goes on without a path that no source has', async (t) => {
    const top = infoOf('top', ['nowhere']);
    const { lookAhead, needed } = scene(t, [top]);
    await lookAhead.begin(top);
    assert.deepEqual(needed, [top.storePath]);
  });
});
