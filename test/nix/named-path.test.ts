import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { findNamedPath, hashOfNamed, isPath, readNamedPath, wholePath } from '../../src/nix/named-path.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { failsWith } from './fixtures.ts';

const NAME = 'd71rfqmrpl3s0hqyvmiykw1yg2ymgnjw-a?b=c.d';
const PATH = `/nix/store/${NAME}`;
const HASH = parseStoreHash(NAME.slice(0, 32));

suite('spellings of a store path', () => {
  const cwd = process.cwd();
  const folder = mkdtempSync(join(tmpdir(), 'narswarm-named-'));
  before(() => {
    symlinkSync(PATH, join(folder, 'result'));
    symlinkSync(join(folder, 'result'), join(folder, 'profile-1'));
    symlinkSync('profile-1', join(folder, 'profile'));
    mkdirSync(join(folder, NAME.slice(0, 32)));
    process.chdir(folder);
  });
  after(() => {
    process.chdir(cwd);
    rmSync(folder, { recursive: true });
  });

  test('reads a store path, a path below one, or a link to one', async () => {
    const below = [
      PATH,
      `${PATH}/`,
      `${PATH}/bin`,
      `${PATH}/bin/x`,
      `//nix/store/${NAME}`,
      `/nix/../nix/store/${NAME}/.`,
    ];
    const links = [
      './result',
      './result/',
      './result/bin/x',
      'result',
      './profile',
      'profile',
      join(folder, 'profile'),
    ];
    for (const text of [...below, ...links, NAME]) assert.equal(await findNamedPath(text), PATH, text);
  });

  test('reads a hash part, even if a file of that name is in the working folder', async () => {
    assert.equal(await findNamedPath(HASH), HASH);
    assert.deepEqual([isPath(HASH), hashOfNamed(HASH), hashOfNamed(await readNamedPath(PATH))], [false, HASH, HASH]);
  });

  test('names the way out for a folder with a flake, and takes no other folder', async () => {
    mkdirSync(join(folder, 'flake'));
    writeFileSync(join(folder, 'flake/flake.nix'), '{}');
    await assert.rejects(findNamedPath('./flake/'), failsWith('STORE_PATH_INVALID', /with a #, as \.\/flake#default$/));
    await assert.rejects(findNamedPath('.'), failsWith('STORE_PATH_INVALID', /name a store path, or a link to one/));
  });

  test('completes a hash part from the store', async () => {
    mkdirSync(join(folder, 'store', NAME), { recursive: true });
    const store = join(folder, 'store');
    assert.equal(await wholePath(HASH, store), join(store, NAME));
    await assert.rejects(
      wholePath(parseStoreHash('a'.repeat(32)), store),
      failsWith('NOT_FOUND', /a{32}.*name the whole path/),
    );
  });

  test('ignores any other word, and refuses any other path', async () => {
    for (const text of ['desktop', HASH.toUpperCase(), `${HASH}x`, 'profile-2', '']) {
      assert.equal(await findNamedPath(text), undefined, text);
      await assert.rejects(readNamedPath(text), failsWith('STORE_PATH_INVALID', /is not a store path, a link/));
    }
    await assert.rejects(findNamedPath('./nothing'), failsWith('NOT_FOUND', /nothing does not exist/));
    await assert.rejects(findNamedPath(`${PATH}^out`), failsWith('STORE_PATH_INVALID', /\^out/));
  });
});
