/** Lets the real Nix read binary caches in folders with any name. */
import assert from 'node:assert/strict';
import { cp, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseNarInfo } from '../../../src/nix/narinfo.ts';
import { FolderUrl } from '../../../src/nix/programs/folder-url.ts';
import { copyClosure } from '../../../src/nix/programs/nix-copy.ts';
import { queryInvalidPaths } from '../../../src/nix/programs/nix-queries.ts';
import { NixWorker } from '../../../src/nix/programs/worker.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { CACHE_DIR, LEAF, readFixture, readNarInfo } from '../fixtures.ts';

const trustedPublicKeys = [readFixture('fixture-1.public').trim()];
const { storePath } = parseNarInfo(readNarInfo(LEAF));

let dir = '';
useNixFolder(async (folder) => {
  dir = folder;
  await mkdir(join(dir, 'tmp'));
});

for (const name of ['~plain', 'with space', 'ünïcode', 'per%20cent', 'line\nend', '?query#fragment']) {
  test(`Nix reads ${JSON.stringify(name)}, and no other folder is made`, async () => {
    const cache = join(dir, 'caches', name);
    await cp(CACHE_DIR, cache, { recursive: true });
    {
      await using url = await FolderUrl.open(cache, join(dir, 'tmp'));
      const copied = `local?root=${dir}/copied`;
      await copyClosure({ from: url.href, to: copied, paths: [storePath], trustedPublicKeys });
      const ensured = `local?root=${dir}/ensured`;
      await using nix = await NixWorker.open({ store: ensured, trustedPublicKeys, substituter: url.href });
      await nix.ensurePath(storePath);
      for (const to of [copied, ensured]) assert.equal((await queryInvalidPaths([storePath], to)).size, 0);
    }
    assert.deepEqual(await readdir(join(dir, 'caches')), [name]);
    assert.deepEqual(await readdir(join(dir, 'tmp')), []);
  });
}

test('without a temporary folder, the URL is encoded', async () => {
  for (const links of [join(dir, 'absent'), '/tmp with space']) {
    await using url = await FolderUrl.open('/media/my disk', links);
    assert.equal(url.href, 'file:///media/my%20disk');
  }
});
