/** Talks to the real `nix-daemon --stdio` about a store of its own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { queryInvalidPaths } from '../../src/nix/nix-queries.ts';
import { NixWorker } from '../../src/nix/worker.ts';
import { useNixFolder } from '../support/nix-folder.ts';
import { CACHE_DIR, failsWith, LEAF, NOTE, readFixture, readNarInfo, TOP } from './fixtures.ts';

const trustedPublicKeys = [readFixture('fixture-1.public').trim()];
const [top, leaf, note] = [TOP, LEAF, NOTE].map((hash) => parseNarInfo(readNarInfo(hash))) as [Info, Info, Info];
type Info = ReturnType<typeof parseNarInfo>;

let dir = '';
let store = '';
const { fakeProgram } = useNixFolder((folder) => {
  dir = folder;
  store = `local?root=${folder}/target`;
});

/** Decodes the NAR of a fixture. @returns the file */
async function decoded({ url, storePath }: Info): Promise<string> {
  const file = join(dir, storePath.slice('/nix/store/'.length));
  await writeFile(file, spawnSync('xz', ['-dc', join(CACHE_DIR, url)]).stdout);
  return file;
}

const invalid = async (): Promise<string[]> => [
  ...(await queryInvalidPaths([top.storePath, leaf.storePath, note.storePath], store)),
];

test('imports one path after another over one connection', async () => {
  await using nix = await NixWorker.open({ store, trustedPublicKeys });
  for (const info of [leaf, note, top]) {
    await nix.addNar(info, await decoded(info));
    assert.ok(!(await invalid()).includes(info.storePath));
  }
  assert.deepEqual(await invalid(), []);
});

test('Nix refuses a path without a signature of a trusted key', async () => {
  for (const [keys, info] of [
    [[], leaf],
    [trustedPublicKeys, { ...leaf, signatures: [] }],
  ] as const) {
    const nar = await decoded(leaf);
    await using nix = await NixWorker.open({ store, trustedPublicKeys: keys });
    await assert.rejects(nix.addNar(info, nar), failsWith('NIX_FAILED', /lacks a (?:valid )?signature/));
    assert.ok((await invalid()).includes(leaf.storePath));
  }
});

test('Nix refuses other contents', async () => {
  const other = await decoded(note);
  await using nix = await NixWorker.open({ store, trustedPublicKeys });
  await assert.rejects(nix.addNar(leaf, other), failsWith('NIX_FAILED', /mismatch importing path/));
  assert.ok((await invalid()).includes(leaf.storePath));
});

test('says why Nix cannot be talked to', async () => {
  const nowhere = failsWith('NIX_FAILED', /\/proc\/nowhere/);
  await assert.rejects(NixWorker.open({ store: 'local?root=/proc/nowhere' }), nowhere);
  fakeProgram('nix-daemon', 'exec cat'); // echoes its input
  await assert.rejects(NixWorker.open({ store }), failsWith('NIX_FAILED', /does not speak a protocol/));
});

test('a request ends if the signal aborts', async () => {
  fakeProgram('nix-daemon', 'exec sleep 1000');
  const stop = new AbortController();
  const opened = NixWorker.open({ store, signal: stop.signal });
  const reason = new Error('enough');
  stop.abort(reason);
  await assert.rejects(opened, reason);
});
