/** NARs that are read for their pieces after the fetch. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, rename, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { FileHash } from '../../src/nix/brands.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { Catalogue, isPending, pendingEntry, type CatalogueEntry } from '../../src/store/catalogue.ts';
import { completePending } from '../../src/store/complete-pending.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { hashNar } from '../../src/store/hash-nar.ts';
import { emptyStore } from './store-fixture.ts';

const MIB = 1024 * 1024;

async function addNar(store: FileStore, index: number, sizeBytes: number): Promise<CatalogueEntry> {
  const temporary = join(store.dir, 'nar.tmp');
  await writeFile(temporary, randomBytes(sizeBytes));
  const hashes = await hashNar(temporary);
  assert.ok(hashes !== undefined);
  await rename(temporary, join(store.dir, 'nar', `${hashes.fileHash}.nar.xz`));
  return pendingEntry({ ...hashes, extension: 'xz' }, pathOf(index), 'fetch');
}

function pathOf(index: number): CatalogueEntry['storePath'] {
  return parseStorePath(`/nix/store/${String(index).repeat(32)}-x`);
}

function badEntry(digit: number): CatalogueEntry {
  const fileHash = String(digit).repeat(52) as FileHash;
  return pendingEntry({ fileHash, extension: 'xz', sizeBytes: 5, mtimeMs: 1 }, pathOf(digit), 'fetch');
}

describe('completePending', () => {
  for (const [how, sizeBytes] of [
    ['in this process', 1000],
    ['in workers', 17 * MIB],
  ] as const) {
    test(`a NAR that cannot be read, or is gone, holds up no other, ${how}`, async (t) => {
      const store = await emptyStore(t);
      const catalogue = await Catalogue.open(store);
      const unreadable = badEntry(0);
      const missing = badEntry(1);
      await mkdir(join(store.dir, 'nar', `${unreadable.fileHash}.nar.xz`)); // reading a folder fails
      const good = [];
      for (const index of [2, 3, 4, 5]) good.push(await addNar(store, index, sizeBytes));
      await catalogue.add([unreadable, missing, ...good]);

      const unfit = new Map<FileHash, number>();
      await completePending(store, catalogue, unfit);
      const pending = [...catalogue.entries()].filter(isPending).map((entry) => entry.storePath);
      assert.deepEqual(pending, [unreadable.storePath, missing.storePath]);
      assert.deepEqual([...unfit.keys()].toSorted(), [unreadable.fileHash, missing.fileHash]);

      // once it can be read, its turn comes after the pause, not for ever never
      await rmdir(join(store.dir, 'nar', `${unreadable.fileHash}.nar.xz`));
      const late = good[0]!;
      await catalogue.add([{ ...late, pieces: '', infoHash: '' as never, mtimeMs: 1 }]);
      unfit.set(late.fileHash, performance.now() + 60_000);
      await completePending(store, catalogue, unfit);
      assert.ok(isPending(catalogue.byStorePath(late.storePath)!));
      unfit.set(late.fileHash, performance.now());
      await completePending(store, catalogue, unfit);
      assert.ok(!isPending(catalogue.byStorePath(late.storePath)!));
      assert.ok(!unfit.has(late.fileHash));
    });
  }

  test('an interruption ends it at once', async (t) => {
    const store = await emptyStore(t);
    const catalogue = await Catalogue.open(store);
    await catalogue.add([await addNar(store, 2, 65 * MIB)]);
    const stop = new AbortController();
    const done = completePending(store, catalogue, new Map(), stop.signal);
    stop.abort(new Error('interrupted'));
    await assert.rejects(done, /interrupted/);
  });
});
