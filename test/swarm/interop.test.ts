/**
 * The real aria2 and the real libtorrent, both ways: they download a NAR from a Swarm by its canonical .torrent, and a
 * Swarm downloads it from them. A program that is missing fails its tests.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import bencode from 'bencode';
import { infoOf, torrentFile } from '../../src/torrent/canonical.ts';
import { startTracker } from '../bench/tracker.ts';
import { requireTool } from '../support/require-tool.ts';
import {
  HOST,
  makeNar,
  MIB,
  peersAt,
  startDownload,
  startSeeder,
  startSwarm,
  tempDir,
  type TestNar,
} from './swarm-fixture.ts';

const LIMIT = { timeout: 180_000 };
const PYTHON = '/usr/bin/python3';
const LIBTORRENT_PEER = fileURLToPath(new URL('libtorrent_peer.py', import.meta.url));
const ARIA2_OPTIONS = (
  '--no-conf --enable-dht=false --enable-dht6=false --bt-enable-lpd=false --disable-ipv6 --file-allocation=none ' +
  '--summary-interval=0 --interface=127.0.0.1 --follow-torrent=false'
).split(' ');

const SIZES: Readonly<Record<string, number>> = {
  'a NAR of one piece': 300_001,
  'a NAR of many pieces': 9 * MIB + 4_321,
};

/** Starts a program that is killed after the test, and collects its output for the message of a failure. */
function start(
  t: TestContext,
  command: string,
  args: readonly string[],
): { child: ChildProcess; output: () => string } {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (text: Buffer) => (output += text.toString()));
  child.stderr.on('data', (text: Buffer) => (output += text.toString()));
  t.after(() => child.kill('SIGKILL'));
  return { child, output: () => output };
}

/** Runs a program to its end. Fails unless its status is 0. */
async function run(t: TestContext, command: string, args: readonly string[]): Promise<void> {
  const { child, output } = start(t, command, args);
  const [status] = (await once(child, 'close')) as [number | null];
  assert.equal(status, 0, `${command} ended with ${status}: ${output()}`);
}

/** Writes the .torrent beside the files of a program. */
async function workspace(t: TestContext, file: Uint8Array): Promise<{ torrent: string; files: string }> {
  const dir = await tempDir(t);
  const files = join(dir, 'files');
  await mkdir(files);
  await writeFile(join(dir, 'nar.torrent'), file);
  return { torrent: join(dir, 'nar.torrent'), files };
}

/** Downloads from a program that seeds on this port. */
async function downloadFrom(t: TestContext, nar: TestNar, port: number, output: () => string): Promise<void> {
  const client = await startSwarm(t);
  const { download, done } = await startDownload(t, client, nar.torrent);
  const refused = once(download, 'alone').then(() => assert.fail(`the program does not serve: ${output()}`));
  await download.addPeers(peersAt(client, port));
  assert.ok(nar.bytes.equals(await Promise.race([done, refused])));
  assert.equal(download.bytes, nar.bytes.length);
}

/** Waits until something accepts connections on a port. */
async function untilListening(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, HOST);
    const isOpen = await new Promise((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    await sleep(50);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** This client is slow at the end of a download. */
suite('aria2', { concurrency: true }, () => {
  before(requireTool('aria2', 'aria2c', '--version'));

  for (const [name, sizeBytes] of Object.entries(SIZES)) {
    test(`downloads ${name}`, LIMIT, async (t) => {
      const nar = await makeNar(t, sizeBytes);
      const seeder = await startSeeder(t, [nar.seed]);
      await using tracker = await startTracker(seeder.port);
      const file = bencode.encode({ announce: tracker.announceUrl, info: infoOf(nar.torrent) });
      const { torrent, files } = await workspace(t, file);
      await run(t, 'aria2c', [...ARIA2_OPTIONS, `--dir=${files}`, '--seed-time=0', torrent]);
      assert.ok(nar.bytes.equals(await readFile(join(files, nar.torrent.name))));
    });

    for (const level of ['plain', 'arc4']) {
      test(`downloads ${name} and insists on encryption (${level})`, LIMIT, async (t) => {
        const nar = await makeNar(t, sizeBytes);
        const seeder = await startSeeder(t, [nar.seed]);
        await using tracker = await startTracker(seeder.port);
        const file = bencode.encode({ announce: tracker.announceUrl, info: infoOf(nar.torrent) });
        const { torrent, files } = await workspace(t, file);
        const crypto = ['--bt-require-crypto=true', `--bt-min-crypto-level=${level}`];
        await run(t, 'aria2c', [...ARIA2_OPTIONS, ...crypto, `--dir=${files}`, '--seed-time=0', torrent]);
        assert.ok(nar.bytes.equals(await readFile(join(files, nar.torrent.name))));
      });
    }

    test(`seeds ${name}`, LIMIT, async (t) => {
      const nar = await makeNar(t, sizeBytes);
      const { torrent, files } = await workspace(t, torrentFile(nar.torrent));
      await copyFile(nar.path, join(files, nar.torrent.name));
      const port = await freePort();
      const seeding = [
        '--check-integrity=true',
        '--seed-ratio=0.0',
        `--listen-port=${port}`,
        `--dir=${files}`,
        torrent,
      ];
      const { output } = start(t, 'aria2c', [...ARIA2_OPTIONS, ...seeding]);
      await untilListening(port);
      await downloadFrom(t, nar, port, output);
    });
  }
});

suite('libtorrent', () => {
  before(requireTool('python3-libtorrent', PYTHON, '-c', 'import libtorrent'));

  for (const [name, sizeBytes] of Object.entries(SIZES)) {
    test(`downloads ${name}`, LIMIT, async (t) => {
      const nar = await makeNar(t, sizeBytes);
      const seeder = await startSeeder(t, [nar.seed]);
      const { torrent, files } = await workspace(t, torrentFile(nar.torrent));
      await run(t, PYTHON, [LIBTORRENT_PEER, 'fetch', torrent, files, `${HOST}:${seeder.port}`]);
      assert.ok(nar.bytes.equals(await readFile(join(files, nar.torrent.name))));
    });

    test(`downloads ${name} and insists on encryption`, LIMIT, async (t) => {
      const nar = await makeNar(t, sizeBytes);
      const seeder = await startSeeder(t, [nar.seed]);
      const { torrent, files } = await workspace(t, torrentFile(nar.torrent));
      await run(t, PYTHON, [LIBTORRENT_PEER, 'fetch', torrent, files, `${HOST}:${seeder.port}`, 'rc4']);
      assert.ok(nar.bytes.equals(await readFile(join(files, nar.torrent.name))));
    });

    test(`seeds ${name}`, LIMIT, async (t) => {
      const nar = await makeNar(t, sizeBytes);
      const { torrent, files } = await workspace(t, torrentFile(nar.torrent));
      await copyFile(nar.path, join(files, nar.torrent.name));
      const { child, output } = start(t, PYTHON, [LIBTORRENT_PEER, 'seed', torrent, files]);
      await once(child.stdout!, 'data');
      await downloadFrom(t, nar, Number(output()), output);
    });
  }
});
