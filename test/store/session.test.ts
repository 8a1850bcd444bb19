import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, truncate, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { FileStore } from '../../src/store/file-store.ts';
import { PartialSession } from '../../src/store/session.ts';
import { emptyStore } from './store-fixture.ts';

const HOLDER = fileURLToPath(new URL('session-holder.ts', import.meta.url));

/** A process that has a session with one file in it, and runs until it is killed. */
async function startHolder(t: TestContext, store: FileStore): Promise<ChildProcess> {
  const child = spawn(process.execPath, [HOLDER, store.dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

const LIMIT = { timeout: 180_000 };

test('takes over the partial files of a killed process', LIMIT, async (t) => {
  const store = await emptyStore(t);
  await kill(await startHolder(t, store));
  await using session = await PartialSession.open(store);
  assert.equal(await readFile(session.path('nar'), 'utf8'), 'half of it');
  assert.deepEqual([...session.leftovers], [session.path('nar')]);
  assert.deepEqual(await readdir(dirname(session.dir)), [basename(session.dir)], 'the folder itself is gone');
});

test('leaves the files of a running process alone', LIMIT, async (t) => {
  const store = await emptyStore(t);
  const holder = await startHolder(t, store);
  await using session = await PartialSession.open(store);
  assert.deepEqual(await readdir(session.dir), []);
  await kill(holder);
  await using heir = await PartialSession.open(store);
  assert.deepEqual(await readdir(heir.dir), ['nar']);
});

test('a session that has ended leaves its files to the next one, in the same process too', async (t) => {
  const store = await emptyStore(t);
  for (let run = 1; run <= 3; run++) {
    await using session = await PartialSession.open(store);
    assert.deepEqual([...session.leftovers], run === 1 ? [] : [session.path('nar')]);
    if (run === 1) await writeFile(session.path('nar'), 'half of it');
    assert.equal(await readFile(session.path('nar'), 'utf8'), 'half of it');
    assert.deepEqual(await readdir(dirname(session.dir)), [basename(session.dir)], 'none piles up');
  }
});

test('a partial file that nobody has continued for a week is removed', async (t) => {
  const store = await emptyStore(t);
  {
    await using session = await PartialSession.open(store);
    for (const [name, days] of [
      ['old', 8],
      ['young', 6],
    ] as const) {
      await writeFile(session.path(name), 'half of it');
      const at = new Date(Date.now() - days * 86_400_000);
      await utimes(session.path(name), at, at);
    }
  }
  await using heir = await PartialSession.open(store);
  assert.deepEqual(await readdir(heir.dir), ['young']);
});

test('keeps two sessions of one process apart', async (t) => {
  const store = await emptyStore(t);
  await using one = await PartialSession.open(store);
  await writeFile(one.path('nar'), 'mine');
  await using other = await PartialSession.open(store);
  assert.notEqual(one.dir, other.dir);
  assert.equal(await readFile(one.path('nar'), 'utf8'), 'mine');
  assert.deepEqual(await readdir(other.dir), []);
});

test('tells a process from an ended one with the same pid', async (t) => {
  const store = await emptyStore(t);
  await using one = await PartialSession.open(store);
  const [machine, boot, namespace, pid] = basename(one.dir).split('-');
  const old = join(dirname(one.dir), `${machine}-${boot}-${namespace}-${pid}-1-1`);
  await mkdir(old);
  await writeFile(join(old, 'nar'), 'old');
  await using heir = await PartialSession.open(store);
  assert.deepEqual(await readdir(heir.dir), ['nar']);
});

test('leaves a folder of another container on this machine alone, since nobody here can check its process', async (t) => {
  const store = await emptyStore(t);
  await using one = await PartialSession.open(store);
  const [machine, boot] = basename(one.dir).split('-');
  const foreign = join(dirname(one.dir), `${machine}-${boot}-1-1-1-1`);
  await mkdir(foreign);
  await using session = await PartialSession.open(store);
  assert.deepEqual(await readdir(session.dir), []);
  assert.ok((await readdir(dirname(one.dir))).includes(basename(foreign)));
});

test('leaves a folder of another machine, which shares the store, alone', async (t) => {
  const store = await emptyStore(t);
  const foreign = join(store.stateDir, 'partial', 'ffff-deadbeef-1-1-1-1');
  await mkdir(foreign, { recursive: true });
  await writeFile(join(foreign, 'nar'), 'theirs');
  await using session = await PartialSession.open(store);
  assert.deepEqual(await readdir(session.dir), []);
});

test('takes over a folder from before the last boot, but not one with another kind of name', async (t) => {
  const store = await emptyStore(t);
  const parent = join(store.stateDir, 'partial');
  const old = await folderOfLastBoot(store);
  await writeFile(join(old, 'nar'), 'old');
  await mkdir(join(parent, 'mine'));
  await using session = await PartialSession.open(store);
  assert.deepEqual(await readdir(session.dir), ['nar']);
  assert.ok((await readdir(parent)).includes('mine'));
});

test('takes over the larger of two parts of a NAR', async (t) => {
  for (const parts of [
    ['half of it', 'half'],
    ['half', 'half of it'],
  ]) {
    const store = await emptyStore(t);
    const old = await folderOfLastBoot(store);
    for (const [number, part] of parts.entries()) {
      const folder = `${old}${number}`;
      await mkdir(folder);
      await writeFile(join(folder, 'nar'), part);
    }
    await using session = await PartialSession.open(store);
    assert.equal(await readFile(session.path('nar'), 'utf8'), 'half of it');
    assert.deepEqual(await readdir(dirname(session.dir)), [basename(session.dir)]);
  }
});

test('of two parts of a NAR of one length takes over the one with fewer gaps', async (t) => {
  const store = await emptyStore(t);
  const old = await folderOfLastBoot(store);
  for (const [number, bytes] of [200_000, 600_000, 400_000].entries()) {
    const folder = `${old}${number}`;
    await mkdir(folder);
    await writeFile(join(folder, 'nar'), Buffer.alloc(bytes, number + 1));
    await truncate(join(folder, 'nar'), 3_000_000);
  }
  await using session = await PartialSession.open(store);
  assert.equal((await readFile(session.path('nar')))[0], 2);
});

test('the hashes of the pieces of a partial file go with it, to one of several heirs', LIMIT, async (t) => {
  const store = await emptyStore(t);
  const old = await folderOfLastBoot(store);
  const names = Array.from({ length: 50 }, (_, index) => `nar-${index}`);
  for (const name of names) {
    await writeFile(join(old, name), name);
    await writeFile(join(old, `${name}.pieces`), name);
  }
  await writeFile(join(old, 'gone.pieces'), 'of a file that is not there');
  const heirs = await Promise.all(Array.from({ length: 5 }, () => PartialSession.open(store)));
  const inherited = (await Promise.all(heirs.map((heir) => readdir(heir.dir)))).flat();
  assert.deepEqual(inherited.toSorted(), names.flatMap((name) => [name, `${name}.pieces`]).toSorted());
  for (const { dir, leftovers } of heirs)
    for (const path of leftovers) assert.equal(await readFile(`${path}.pieces`, 'utf8'), basename(path), dir);
});

test('gives each file to one of several heirs', LIMIT, async (t) => {
  const store = await emptyStore(t);
  const old = await folderOfLastBoot(store);
  const names = Array.from({ length: 50 }, (_, index) => `nar-${index}`);
  for (const name of names) await writeFile(join(old, name), name);
  const heirs = await Promise.all(Array.from({ length: 5 }, () => PartialSession.open(store)));
  const inherited = (await Promise.all(heirs.map((heir) => readdir(heir.dir)))).flat();
  assert.deepEqual(inherited.toSorted(), names.toSorted());
  for (const { dir, leftovers } of heirs)
    assert.deepEqual([...leftovers].toSorted(), (await readdir(dir)).map((name) => join(dir, name)).toSorted());
});

test('removes its folder if it is empty, and keeps remaining files', async (t) => {
  const store = await emptyStore(t);
  const session = await PartialSession.open(store);
  await session[Symbol.asyncDispose]();
  assert.deepEqual(await readdir(dirname(session.dir)), []);
  const other = await PartialSession.open(store);
  await writeFile(other.path('nar'), 'half of it');
  await other[Symbol.asyncDispose]();
  const [left = ''] = await readdir(dirname(other.dir));
  assert.equal(await readFile(join(dirname(other.dir), left, 'nar'), 'utf8'), 'half of it');
});

/** Makes a folder of a process that ran before this machine was restarted. */
async function folderOfLastBoot(store: FileStore): Promise<string> {
  const session = await PartialSession.open(store);
  const [machine] = basename(session.dir).split('-');
  await session[Symbol.asyncDispose]();
  const old = join(store.stateDir, 'partial', `${machine}-deadbeef-1-1-1-1`);
  await mkdir(old);
  return old;
}
