/** The order in which thousands of paths are imported. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArrivedPaths } from '../../../src/fetch/import/arrived-paths.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../../src/nix/nix32.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { TOP } from '../../nix/fixtures.ts';
import { filledStore, infoOf } from '../../store/store-fixture.ts';
import { closureOf } from '../walk/closure-of.ts';

const COUNT = 2000;

test('gives the best of many importable paths, without a look at all of them', async (t) => {
  const store = await filledStore(t);
  const file = await infoOf(store, TOP);
  const infos = Array.from({ length: COUNT }, (_, index): NarInfo => {
    const hash = Buffer.alloc(20);
    hash.writeUInt32LE(index);
    const storePath = parseStorePath(`/nix/store/${encodeNix32(hash)}-${index}`);
    return { ...file, storePath, references: [], narSize: 1000 + ((index * 7919) % COUNT) };
  });
  const paths = new ArrivedPaths(closureOf(...infos), new Set(infos.map(({ storePath }) => storePath)), store);
  const looks = t.mock.method(paths, 'placeOf');
  for (const info of infos) paths.add(info);
  let last = 0;
  for (let left = COUNT; left > 0; left--) {
    const first = paths.first();
    assert.ok(first);
    const place = paths.placeOf(first.info);
    assert.ok(place >= last);
    last = place;
    paths.begin(first);
    paths.noteValid(first.info);
  }
  assert.equal(paths.first(), undefined);
  const count = looks.mock.callCount();
  assert.ok(count < 20 * COUNT, `${count} looks at ${COUNT} paths`);
});
