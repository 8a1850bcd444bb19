/** The main job through real processes: publish, find by the DHT, download from peers, import with the real `nix copy`. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { formatEndpoint, type Endpoint } from '../../src/discovery/endpoint.ts';
import { untilInCohort } from '../support/dht-network.ts';
import {
  ALONE,
  assertSound,
  Lab,
  narBytesOf,
  readNarInfos,
  requisites,
  type RunningPublisher,
} from '../support/lab.ts';

describe('the main job', () => {
  let lab: Lab;
  let made: MadeClosure;
  let publisher: RunningPublisher;
  let totalBytes: number;
  /** The nodes of a private DHT. */
  const bootstrap: Endpoint[] = [];
  /** Flags of a process in it. */
  let inDht: string[];
  let store: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([2_500_000, 300_000, 20_000, 5_000]);
    totalBytes = await narBytesOf(made.cacheDir);
    for (let count = 0; count < 3; count++) {
      const first = bootstrap.slice(0, 1).flatMap((node) => ['--bootstrap', formatEndpoint(node)]);
      const { ready } = await lab.service(['dht', '--listen', '127.0.0.1', ...first]);
      assert.equal(ready['nodes'], count);
      bootstrap.push({ host: '127.0.0.1', port: Number(ready['dhtPort']) });
    }
    inDht = [
      '--listen',
      '127.0.0.1',
      '--no-lan',
      ...bootstrap.flatMap((node) => ['--dht-bootstrap', formatEndpoint(node)]),
    ];
    publisher = await lab.publisher(made, inDht);
    store = await lab.folder('store');
  });
  after(() => lab[Symbol.asyncDispose]());

  const fetch = (args: readonly string[]): ReturnType<Lab['run']> =>
    lab.run(['fetch', ...args, '--no-upstream', '--trusted-public-key', made.publicKey]);

  test('publish prints its address, and that the DHT holds the pointer', () => {
    const { ready } = publisher;
    assert.match(publisher.address, /^magnet:\?xs=urn:btpk:[0-9a-f]{64}$/);
    for (const port of ['port', 'dhtPort', 'httpPort']) assert.ok(Number(ready[port]) > 0, port);
    assert.equal(ready['dhtNodes'], 3);
  });

  test('fetch needs only the address and a root’s name, and imports the root', async () => {
    const target = await lab.folder('target');
    const to = `local?root=${target}`;
    const run = await fetch(['lab', '--publisher', publisher.address, '--store', store, '--to', to, ...inDht]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.stderr, '');
    const { paths, nars, bytes, peers, imported, sources } = run.event('done');
    assert.deepEqual(bytes, { total: totalBytes, store: 0, peers: totalBytes, upstream: 0 });
    assert.deepEqual({ paths, nars, peers, imported }, { paths: 8, nars: 8, peers: 1, imported: true });
    assert.deepEqual(sources, [{ source: publisher.peer, kind: 'peers', bytes: totalBytes }]);
    assert.equal((await assertSound(store, made.publicKey)).nars.length, 8);
    assert.equal(requisites(to, made.root).length, 8);
    const verified = spawnSync('nix-store', ['--store', to, '--verify', '--check-contents'], { encoding: 'utf8' });
    assert.equal(verified.status, 0, verified.stderr);
  });

  test('a second fetch downloads nothing', async () => {
    const run = await fetch(['lab', '--publisher', publisher.address, '--store', store, '--no-copy', ...inDht]);
    assert.equal(run.status, 0, run.stderr);
    const { nars, bytes, imported } = run.event('done');
    assert.deepEqual({ nars, imported }, { nars: 0, imported: false });
    assert.deepEqual(bytes, { total: totalBytes, store: totalBytes, peers: 0, upstream: 0 });
  });

  test('a root may be given by its store path, by its hash part and by its name', async () => {
    for (const root of [made.root, made.root.slice('/nix/store/'.length).slice(0, 32), 'lab']) {
      const dir = await lab.folder('store');
      const run = await fetch([root, '--publisher', publisher.mirror, '--store', dir, '--no-copy', ...ALONE]);
      assert.equal(run.status, 0, run.stderr);
      assert.deepEqual(run.event('done')['bytes'], { total: totalBytes, store: 0, peers: totalBytes, upstream: 0 });
      assert.equal((await assertSound(dir, made.publicKey)).narInfos.length, 8);
    }
  });

  test('--dry-run lists the NARs and fetches nothing', async () => {
    const dir = await lab.folder('store');
    const run = await fetch([
      'lab',
      '--dry-run',
      '--publisher',
      publisher.mirror,
      '--store',
      dir,
      '--no-copy',
      ...ALONE,
    ]);
    assert.equal(run.status, 0, run.stderr);
    const { paths, nars, bytes, torrents, missing } = run.event('plan');
    assert.deepEqual({ paths, nars, bytes, torrents }, { paths: 8, nars: 8, bytes: totalBytes, torrents: 8 });
    assert.ok(Array.isArray(missing) && missing.includes(made.root) && missing.length === 8);
    assert.ok(!run.events.some(({ event }) => event === 'done'));
    assert.deepEqual(await readdir(dir), []);
  });

  test('paths that the target holds are not downloaded, but their narinfos are written', async () => {
    const dir = await lab.folder('store');
    const to = `local?root=${await lab.folder('target')}`;
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const half = infos.find(({ storePath }) => storePath.endsWith('-lab-1'));
    assert.ok(half !== undefined);
    const copy = ['--extra-experimental-features', 'nix-command', 'copy', '--from', `file://${made.cacheDir}`];
    const keys = ['--option', 'trusted-public-keys', made.publicKey, '--option', 'substituters', ''];
    const copied = spawnSync('nix', [...copy, '--to', to, ...keys, half.storePath], { encoding: 'utf8' });
    assert.equal(copied.status, 0, copied.stderr);
    const valid = requisites(to, half.storePath).map((path) => path.slice('/nix/store/'.length));
    assert.equal(valid.length, 4);
    const run = await fetch(['lab', '--publisher', publisher.mirror, '--store', dir, '--to', to, ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('plan')['valid'], 4);
    const missingBytes = infos
      .filter(({ storePath }) => !valid.includes(storePath.slice('/nix/store/'.length)))
      .reduce((sum, { fileSize = 0 }) => sum + fileSize, 0);
    assert.deepEqual(run.event('done')['bytes'], { total: missingBytes, store: 0, peers: missingBytes, upstream: 0 });
    const { narInfos, nars } = await assertSound(dir, made.publicKey, { withoutNar: valid });
    assert.deepEqual([narInfos.length, nars.length], [8, 4]);
    assert.equal(requisites(to, made.root).length, 8);
  });

  test('people read lines on stderr and a table on stdout', async () => {
    const dir = await lab.folder('store');
    const what = ['fetch', 'lab', '--publisher', publisher.mirror, '--store', dir, '--no-copy', '--no-upstream'];
    const run = await lab.runPlain([...what, '--trusted-public-key', made.publicKey, ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.match(
      run.stderr,
      /^looking for the hash map, for \d+ s at most\nwalking the closure\n8 paths: 8 NARs to fetch \(2\.8\d MB, 8 with a torrent\)/,
    );
    assert.match(
      run.stdout,
      /^\/nix\/store\/\S+\n8 NARs fetched, 2\.8\d MB \(.*\/s\)\n {2}127\.0\.0\.1 +2\.8\d MB {2}neighbour\n8 paths in .* all from 1 neighbour, 2\.8\d MB of internet saved\n$/,
    );
  });

  test('people read in one line that everything is there', async () => {
    const to = `local?root=${await lab.folder('target')}`;
    const what = ['fetch', made.root, '--publisher', publisher.mirror, '--store', store, '--no-upstream'];
    const told = async (...more: readonly string[]): Promise<string> => {
      const run = await lab.runPlain([...what, ...more, '--trusted-public-key', made.publicKey, ...ALONE]);
      assert.equal(run.status, 0, run.stderr);
      return `${run.stderr}${run.stdout}`.replace(`${made.root}\n`, '');
    };
    const head = 'walking the closure\n8 paths';
    assert.equal(await told('--no-copy'), `${head}: all are there already, 8 in the file store\n`);
    const imported = await told('--to', to);
    assert.match(imported, /^importing into local/m);
    assert.match(imported, /^8 paths, nothing to fetch, 8 imported from the file store in .*\n$/m);
    assert.equal(await told('--to', to), `${head}: all are there already, 8 valid in ${to}\n`);
  });

  test('without the publisher, its followers serve the hash map and the NARs', async () => {
    const follow = ['--publisher', publisher.address, '--trusted-public-key', made.publicKey, '--scope', 'cohort'];
    const follower = await lab.service(['daemon', '--store', store, ...follow, ...inDht]);
    assert.equal(follower.ready['nars'], 8);
    const followed = await follower.process.event('followed');
    assert.deepEqual([followed['publisher'], followed['records']], [publisher.address, 8]);
    // A machine that asks too early finds only the publisher, which is gone, and asks again after 15 s.
    await untilInCohort(bootstrap, publisher.address, Number(follower.ready['port']));
    const { status, stderr } = await publisher.process.stop('SIGINT');
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });

    const dir = await lab.folder('store');
    const run = await fetch(['lab', '--publisher', publisher.address, '--store', dir, '--no-copy', ...inDht]);
    assert.equal(run.status, 0, run.stderr);
    const source = `127.0.0.1:${String(follower.ready['port'])}`;
    assert.deepEqual(run.event('done')['sources'], [{ source, kind: 'peers', bytes: totalBytes }]);
    await assertSound(dir, made.publicKey);
  });
});
