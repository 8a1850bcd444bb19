import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import { buildIndex, writeIndex } from './built-index.ts';
import { HashMap } from '../../src/index/hash-map.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { withinBudget, type RankFiles } from '../../src/index/within-budget.ts';
import { parseStorePath, storeHashOf } from '../../src/nix/store-path.ts';
import { tempDir } from '../store/store-fixture.ts';
import { GOLDEN, KEY, NOW, RECORDS } from './fixtures.ts';

suite('the part of a hash map that fits into a budget', () => {
  const all = RECORDS.map(({ storePath }) => storeHashOf(storePath)).toSorted();
  const sizeOf = (name: RegExp): number =>
    RECORDS.filter(({ storePath }) => name.test(storePath)).reduce((sum, { fileSize }) => sum + (fileSize ?? 0), 0);
  const pathOf = (name: RegExp) =>
    parseStorePath(RECORDS.find(({ storePath }) => name.test(storePath))?.storePath ?? '');
  const leafName = pathOf(/leaf/);

  async function chosen(t: TestContext, maxBytes: number, rankFiles?: RankFiles, kept?: ReadonlyMap<string, number>) {
    const roots = [
      ...GOLDEN.roots,
      { name: 'leaf', path: leafName },
      ...(rankFiles === undefined ? [] : [{ name: 'note', path: pathOf(/note/) }]),
    ];
    const index = await buildIndex({ ...GOLDEN, roots });
    const dir = new IndexDir(await tempDir(t));
    await writeIndex(dir, index);
    const manifest = parseManifest(index.manifest, { publicKey: KEY.publicKey, now: NOW });
    const source = { readFile: () => assert.fail('everything is on the disk') };
    const map = new HashMap('map', { manifest, bytes: index.manifest, fetchedBytes: 0 }, dir, source);
    const { hashes, leftOut, beyond } = await withinBudget(map, { maxBytes, rankFiles, kept }, t.signal);
    assert.equal(beyond.paths, all.length - hashes.length);
    return { hashes, leftOut, bytes: beyond.bytes };
  }

  test('is everything if it fits or there is no budget', async (t) => {
    for (const maxBytes of [Infinity, sizeOf(/./)]) {
      const { hashes, leftOut, bytes } = await chosen(t, maxBytes);
      assert.deepEqual([hashes.toSorted(), leftOut, bytes], [all, [], 0]);
    }
  });

  test('has the roots that fit, in the order of the map, then other paths, with their closures', async (t) => {
    const { hashes, leftOut, bytes } = await chosen(t, sizeOf(/./) - 1);
    assert.deepEqual([leftOut, bytes], [['top'], sizeOf(/./) - sizeOf(/leaf|note/)]);
    assert.deepEqual(hashes, [storeHashOf(leafName), storeHashOf(pathOf(/note/))]);
  });

  test('leaves the space of NARs that the store keeps for others, which are free if the map has them', async (t) => {
    const leaf = RECORDS.find(({ storePath }) => storePath === leafName);
    const keptLeaf = new Map([[leaf?.fileHash ?? '', leaf?.fileSize ?? 0]]);
    const other = new Map([['other', 1]]);
    const whole = sizeOf(/./);
    assert.deepEqual((await chosen(t, whole, undefined, keptLeaf)).leftOut, []);
    assert.deepEqual((await chosen(t, whole + 1, undefined, other)).leftOut, []);
    assert.deepEqual((await chosen(t, whole, undefined, other)).leftOut, ['top']);
    assert.deepEqual(await chosen(t, 1, undefined, keptLeaf), {
      hashes: [storeHashOf(leafName)],
      leftOut: ['top'],
      bytes: sizeOf(/./) - sizeOf(/leaf/),
    });
  });

  test('is empty if no root fits', async (t) => {
    assert.deepEqual(await chosen(t, 1), { hashes: [], leftOut: ['top', 'leaf'], bytes: sizeOf(/./) });
  });

  test('has the rarest roots first, then the rarest paths that still fit, with their closures', async (t) => {
    const rankBy =
      (...names: RegExp[]): RankFiles =>
      () => {
        const rank = (file: string): number =>
          names.findIndex((name) =>
            RECORDS.some(({ storePath, fileHash }) => fileHash === file && name.test(storePath)),
          );
        return Promise.resolve((file) => rank(file));
      };
    const noteName = pathOf(/note/);
    const one = sizeOf(/note|leaf/) - 1; // either of them
    const note = await chosen(t, one, rankBy(/note/, /leaf/, /top/));
    assert.deepEqual(note, {
      hashes: [storeHashOf(noteName)],
      leftOut: ['top', 'leaf'],
      bytes: sizeOf(/./) - sizeOf(/note/),
    });
    const leaf = await chosen(t, one, rankBy(/leaf/, /note/, /top/));
    assert.deepEqual(leaf, {
      hashes: [storeHashOf(leafName)],
      leftOut: ['top', 'note'],
      bytes: sizeOf(/./) - sizeOf(/leaf/),
    });
  });
});
