import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { suite, test } from 'node:test';
import type { DaemonFacts } from '../../src/daemon/facts.ts';
import { askDaemon, FactsSocket } from '../../src/daemon/facts-socket.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { emptyStore, tempDir } from '../store/store-fixture.ts';

const FACTS: DaemonFacts = {
  version: '0.2.0',
  pid: 7,
  startedAt: '2026-11-20T02:14:09.123Z',
  storeDir: '/srv/store',
  scope: 'lan',
  port: 16277,
  dht: { port: 16277, nodes: 3 },
  mapPort: null,
  portMapping: null,
  substituters: ['http://127.0.0.1:16275'],
  nars: 5,
  served: { nars: 2, bytesToMembers: 10, bytesToClients: 0, bytesToNix: 6, bytesOverHttp: 0 },
  members: [{ address: 'a:1', host: 'a', isNeighbour: true, holds: null, sentBytes: 10, gaveBytes: 0 }],
  maps: [{ address: 'magnet:?x', edition: null }],
  published: null,
  updating: ['mirror'],
};
/** Longer than any answer takes. */
const PATIENCE_MS = 180_000;

suite('the socket of a daemon', { timeout: PATIENCE_MS }, () => {
  test('tells its facts, and none once it is closed', async (t) => {
    const store = await emptyStore(t);
    assert.deepEqual(await askDaemon(store, PATIENCE_MS), { kind: 'none' });
    const socket = await FactsSocket.open(store, () => FACTS);
    assert.deepEqual(await askDaemon(store, PATIENCE_MS), { kind: 'running', facts: FACTS });
    await socket[Symbol.asyncDispose]();
    assert.deepEqual(await askDaemon(store, PATIENCE_MS), { kind: 'none' });
    await assert.rejects(stat(join(store.stateDir, 'daemon')), { code: 'ENOENT' });
  });

  test('can be reached by its user alone, whoever made its folder', async (t) => {
    const store = await emptyStore(t);
    const folder = join(store.stateDir, 'daemon');
    await mkdir(folder, { mode: 0o755 });
    await using _socket = await FactsSocket.open(store, () => FACTS);
    const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;
    assert.deepEqual([await modeOf(folder), await modeOf(join(folder, 'socket'))], [0o700, 0o600]);
  });

  test('takes the place of one that a killed daemon has left', async (t) => {
    const store = await emptyStore(t);
    await mkdir(join(store.stateDir, 'daemon'));
    await writeFile(join(store.stateDir, 'daemon', 'socket'), '');
    await using _socket = await FactsSocket.open(store, () => FACTS);
    assert.equal((await askDaemon(store, PATIENCE_MS)).kind, 'running');
  });

  test('works below a path that is too long for a socket', async (t) => {
    const dir = join(await tempDir(t), 'x'.repeat(120));
    const store = await FileStore.open(dir, { create: true });
    const socket = await FactsSocket.open(store, () => FACTS);
    assert.equal((await askDaemon(store, PATIENCE_MS)).kind, 'running');
    await socket[Symbol.asyncDispose]();
    await assert.rejects(stat(join(store.stateDir, 'daemon')), { code: 'ENOENT' });
  });

  test('a daemon that does not answer is waited for only so long', async (t) => {
    const store = await emptyStore(t);
    const folder = join(store.stateDir, 'daemon');
    await mkdir(folder);
    const server = createServer(() => undefined).listen(join(folder, 'socket'));
    await once(server, 'listening');
    t.after(() => server.close());
    assert.deepEqual(await askDaemon(store, 20), { kind: 'silent' });
  });

  test('facts of another version are not shown', async (t) => {
    const store = await emptyStore(t);
    const { port: _, ...older } = FACTS;
    await using _socket = await FactsSocket.open(store, () => older as DaemonFacts);
    assert.deepEqual(await askDaemon(store, PATIENCE_MS), { kind: 'other', version: '0.2.0', pid: 7 });
  });

  test('a question that is unknown, or too long, ends the connection', async (t) => {
    const store = await emptyStore(t);
    await using _socket = await FactsSocket.open(store, () => FACTS);
    for (const question of ['{"ask":"secrets"}\n', 'x\n', 'x'.repeat(5_000)]) {
      const client = connect(join(store.stateDir, 'daemon', 'socket'));
      client.write(question);
      assert.equal(await text(client), '');
    }
  });

  test('a place where nothing can listen is named', async (t) => {
    const store = await emptyStore(t);
    await rm(store.stateDir, { recursive: true });
    await writeFile(store.stateDir, '');
    await assert.rejects(
      FactsSocket.open(store, () => FACTS),
      { code: 'STORE_UNWRITABLE' },
    );
  });
});
