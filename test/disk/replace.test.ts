import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { moveFile, replaceFile, temporaryBeside } from '../../src/disk/replace.ts';

const SOURCE = fileURLToPath(new URL('../../src/', import.meta.url));

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-replace-'));
  t.after(() => rm(dir, { recursive: true }));
  return dir;
}

for (const [what, content] of [
  ['a small text', 'new'],
  ['many bytes', Buffer.alloc(100_000, 7)],
] as const) {
  test(`a file is replaced by ${what}, with its permissions`, async (t) => {
    const dir = await folder(t);
    const path = join(dir, 'file');
    await writeFile(path, 'before');
    await replaceFile(path, content, { mode: 0o600 });
    assert.deepEqual(await readFile(path), Buffer.from(content));
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(dir), ['file']);
  });

  test(`if it cannot be replaced by ${what}, nothing is left beside it`, async (t) => {
    const dir = await folder(t);
    const path = join(dir, 'file');
    await mkdir(join(path, 'in-the-way'), { recursive: true });
    await assert.rejects(replaceFile(path, content), { code: 'STORE_UNWRITABLE', facts: { path } });
    assert.deepEqual(await readdir(dir), ['file']);
  });
}

test('a file that cannot be moved names its new place', async (t) => {
  const dir = await folder(t);
  const [from, to] = [join(dir, 'from'), join(dir, 'none', 'to')];
  await writeFile(from, 'x');
  await assert.rejects(moveFile(from, to), { code: 'STORE_UNWRITABLE', facts: { path: to } });
  assert.deepEqual(await readdir(dir), ['from']);
});

test('two processes that replace a file have files of their own', () => {
  assert.notEqual(temporaryBeside('/a'), temporaryBeside('/a'));
  assert.match(temporaryBeside('/a'), /^\/a\.[0-9a-f]{8}\.tmp$/);
});

/** Other files that are moved, outside `disk/` and `store/`. None of them gets into `nar/`. */
const MOVED: Readonly<Record<string, string>> = {
  'cli/start/core-script.ts': 'compiled code',
  'config/write.ts': 'the config file, by its lock',
  'index/files/editions.ts': 'folders of editions',
  'index/files/index-dir.ts': 'files of hash maps, unless a newer one is there',
  'nix/programs/kept-config.ts': 'the kept configuration of Nix',
  'nix/roots/root-links.ts': 'links',
  'push/receive.ts': 'the store of a push that has ended',
  'subscription/room/kept-builds.ts': 'unpacked builds',
  'suitcase/staged-files.ts': 'files of a suitcase, after one sync',
};

test('files of a store are placed by store/ alone', () => {
  const moving = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).filter(
    (path) =>
      path.endsWith('.ts') &&
      !/^(?:store|disk)\//.test(path) &&
      /^import \{[^}]*\b(?:rename|renameSync|moveFile)\b/m.test(readFileSync(join(SOURCE, path), 'utf8')),
  );
  assert.deepEqual(moving.toSorted(), Object.keys(MOVED));
});

test('disk/ alone gives a failed operation the error of the store', () => {
  const own = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).filter(
    (path) =>
      path.endsWith('.ts') &&
      !path.startsWith('disk/') &&
      /reject\(storeError|=> \{\s*throw storeError|\.tmp`/.test(readFileSync(join(SOURCE, path), 'utf8')),
  );
  assert.deepEqual(own, ['nix/roots/root-links.ts']); // links, of which no store knows
});
