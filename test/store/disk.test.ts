/** Disks that are full or read-only: real file systems, mounted for the test. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { makeFolder } from '../../src/disk/make-folder.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { Turn } from '../../src/store/turn.ts';
import { inNamespace } from '../support/namespace.ts';
import { torrentOf } from '../swarm/swarm-fixture.ts';
import { failureOf, prepare } from './partial-fixture.ts';

const PIECE = 256 * 1024;

/** A file system of its own, which can be full or read-only even for root. */
async function mount(t: TestContext, options: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-mount-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir]);
  t.after(async () => {
    execFileSync('umount', ['--lazy', dir]);
    await rm(dir, { recursive: true });
  });
  return dir;
}

/** Only root may mount. Other users run this file again in a namespace in which they are root. */
if (process.getuid?.() !== 0) {
  test('as root of a namespace of its own', () => {
    const [file, ...words] = [...inNamespace('-m'), process.execPath, '--test', import.meta.filename];
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync(file, words, { encoding: 'utf8', env });
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /pass \d+$/m);
  });
} else {
  test('reports a full disk, for large and for small NARs, and leaves nothing at the target', async (t) => {
    const dir = await mount(t, 'size=384k');
    const large = await prepare(t, 5 * PIECE, dir);
    const partial = await large.begin();
    await partial.putPiece(0, large.piece(0), 'a peer');
    assert.equal((await failureOf(partial.putPiece(1, large.piece(1), 'a peer'))).code, 'STORE_FULL');
    assert.equal(partial.has(1), false);
    assert.equal((await failureOf(partial.write(PIECE, [large.piece(1)], 'a server'))).code, 'STORE_FULL');

    const small = { ...(await prepare(t, 250_000)), target: join(dir, 'small') };
    const path = join(dir, 'small.partial');
    const torrent = torrentOf(small.bytes);
    await using one = await PartialNar.open(path, { sizeBytes: 250_000, fileHash: torrent.fileHash, torrent });
    await one.putPiece(0, small.bytes, 'a peer');
    assert.equal((await failureOf(one.settle(small.target))).code, 'STORE_FULL');
    await assert.rejects(access(small.target));
    await one.close(); // bytes that cannot be kept are fetched again
  });

  test('reports a read-only state if a turn is taken', async (t) => {
    const dir = await mount(t, 'size=1m');
    const store = await FileStore.open(join(dir, 'store'), { create: true });
    await makeFolder(store.stateDir);
    execFileSync('mount', ['-o', 'remount,ro', dir]);
    const message = /^cannot write \S+collecting\S+ \(EROFS\): check its permissions or choose another --store$/;
    await assert.rejects(Turn.take(store, 'collecting'), { code: 'STORE_UNWRITABLE', message });
  });

  test('reports a folder that cannot be written', async (t) => {
    const dir = await mount(t, 'ro');
    const large = await prepare(t, 5 * PIECE, dir);
    const failure = await failureOf(large.begin());
    assert.deepEqual([failure.code, failure.facts['path']], ['STORE_UNWRITABLE', large.path]);
    const small = await prepare(t, 1000, dir);
    const partial = await small.begin();
    await partial.putPiece(0, small.bytes, 'a peer');
    assert.equal((await failureOf(partial.settle(small.target))).code, 'STORE_UNWRITABLE');
  });
}
