import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import { buildIndex } from '../../src/index/build.ts';
import { HashMap } from '../../src/index/hash-map.ts';
import { IndexDir } from '../../src/index/index-dir.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { withinBudget } from '../../src/index/within-budget.ts';
import { parseStorePath, storeHashOf } from '../../src/nix/store-path.ts';
import { tempDir } from '../store/store-fixture.ts';
import { GOLDEN, KEY, NOW, RECORDS } from './fixtures.ts';

suite('what of a map fits into a budget', () => {
  const all = RECORDS.map(({ storePath }) => storeHashOf(storePath)).toSorted();
  const sizeOf = (name: RegExp): number =>
    RECORDS.filter(({ storePath }) => name.test(storePath)).reduce((sum, { fileSize }) => sum + (fileSize ?? 0), 0);
  const pathOf = (name: RegExp) =>
    parseStorePath(RECORDS.find(({ storePath }) => name.test(storePath))?.storePath ?? '');
  const leafName = pathOf(/leaf/);

  async function chosen(t: TestContext, maxBytes: number) {
    const roots = [...GOLDEN.roots, { name: 'leaf', path: leafName }];
    const index = buildIndex({ ...GOLDEN, roots });
    const dir = new IndexDir(await tempDir(t));
    await dir.write(index);
    const manifest = parseManifest(index.manifest, { publicKey: KEY.publicKey, now: NOW });
    const source = { readFile: () => assert.fail('everything is on the disk') };
    const map = new HashMap('map', { manifest, bytes: index.manifest, fetchedBytes: 0 }, dir, source);
    return withinBudget(map, maxBytes, t.signal);
  }

  test('everything, where it fits or there is no budget', async (t) => {
    for (const maxBytes of [Infinity, sizeOf(/./)]) {
      const { hashes, leftOut } = await chosen(t, maxBytes);
      assert.deepEqual([hashes.toSorted(), leftOut], [all, []]);
    }
  });

  test('the roots that fit, in the order of the map, with all that they refer to', async (t) => {
    const { hashes, leftOut } = await chosen(t, sizeOf(/./) - 1);
    assert.deepEqual(leftOut, ['top']);
    assert.deepEqual(hashes, [storeHashOf(leafName)]);
  });

  test('nothing, where no root fits', async (t) => {
    assert.deepEqual(await chosen(t, 1), { hashes: [], leftOut: ['top', 'leaf'] });
  });
});
