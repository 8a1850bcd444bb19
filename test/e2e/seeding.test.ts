/** Seeding by daemons, by peers on the local network, and by a fetch that stays for a while. */
import assert from 'node:assert/strict';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { untilServed } from '../support/handshake.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, mirrorOf, narBytesOf, readNarInfos, torrentIn, type Run } from '../support/lab.ts';

/** The tests wait more than they work. */
describe('seeding', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let upstream: HttpCache;
  /** The hash map, at a mirror that seeds nothing: peers have to be found. */
  let mirror: string;
  let totalBytes: number;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_500_000, 100_000, 5_000]);
    totalBytes = await narBytesOf(made.cacheDir);
    const trust = ['--trusted-public-key', made.publicKey];
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--key', lab.path('key'), ...trust];
    const run = await lab.run(['publish', '--once', ...what]);
    assert.equal(run.status, 0, run.stderr);
    const { address, dir } = run.event('published');
    upstream = lab.use(await startHttpCache(made.cacheDir));
    const index = lab.use(await startHttpCache(String(dir)));
    mirror = mirrorOf(String(address), index.url);
  });
  after(() => lab[Symbol.asyncDispose]());

  const daemon = (store: string, args: readonly string[]): ReturnType<Lab['service']> =>
    lab.service([
      'daemon',
      '--store',
      store,
      '--trusted-public-key',
      made.publicKey,
      '--share-keys',
      made.publicKey,
      ...args,
    ]);
  const fetch = (store: string, args: readonly string[]): Promise<Run> =>
    lab.run(['fetch', made.root, '--store', store, '--no-copy', '--trusted-public-key', made.publicKey, ...args]);
  /** Waits until a daemon serves every NAR of the closure. */
  const untilAllServed = async (port: unknown, store: string): Promise<void> => {
    for (const info of (await readNarInfos(store)).values())
      await untilServed(Number(port), (await torrentIn(made.cacheDir, info)).infoHash);
  };

  test('a daemon seeds NARs that a fetch adds to its store, even over HTTP without a hash map', async () => {
    const store = await lab.folder('store');
    const { ready } = await daemon(store, ALONE);
    assert.deepEqual([ready['nars'], ready['dhtPort'], ready['scope']], [0, null, 'lan']);
    const filled = await fetch(store, ['--from', upstream.url, ...ALONE]);
    assert.equal(filled.status, 0, filled.stderr);
    assert.deepEqual(filled.event('done')['bytes'], { total: totalBytes, store: 0, peers: 0, upstream: totalBytes });

    await untilAllServed(ready['port'], store);
    const other = await lab.folder('store');
    const peer = `127.0.0.1:${String(ready['port'])}`;
    const run = await fetch(other, ['--no-upstream', '--publisher', mirror, '--peer', peer, ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('done')['sources'], [{ source: peer, kind: 'peers', bytes: totalBytes }]);
    await assertSound(other, made.publicKey);
  });

  test('peers find each other on the local network, without the DHT and without --peer', async () => {
    const store = await lab.folder('store');
    assert.equal((await fetch(store, ['--from', upstream.url, '--publisher', mirror, ...ALONE])).status, 0);
    const onLan = ['--listen', '127.0.0.1', '--no-dht', '--publisher', mirror];
    const { process } = await daemon(store, onLan);
    await process.event('followed');
    const other = await lab.folder('store');
    const run = await fetch(other, ['--no-upstream', ...onLan]);
    assert.equal(run.status, 0, run.stderr);
    // The daemon has heard of the fetch, too: who of them connects first names the connection.
    const sources = run.event('done')['sources'] as { source: string; kind: string; bytes: number }[];
    assert.ok(sources.every(({ source, kind }) => source.startsWith('127.0.0.1:') && kind === 'peers'));
    assert.equal(
      sources.reduce((sum, { bytes }) => sum + bytes, 0),
      totalBytes,
    );
    await assertSound(other, made.publicKey);
  });

  test('--seed-for reports the fetch, and then seeds', async () => {
    const seeding = ['--from', upstream.url, '--publisher', mirror, '--seed-for', '10m', ...ALONE];
    const trust = ['--trusted-public-key', made.publicKey];
    const store = await lab.folder('store');
    const first = lab.start(['fetch', made.root, '--store', store, '--no-copy', ...trust, ...seeding]);
    const { port } = await first.event('seeding');
    assert.ok(first.events.some(({ event }) => event === 'done'));
    const peer = `127.0.0.1:${String(port)}`;
    const other = await lab.folder('store');
    const run = await fetch(other, ['--no-upstream', '--publisher', mirror, '--peer', peer, ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('done')['sources'], [{ source: peer, kind: 'peers', bytes: totalBytes }]);
    assert.equal((await first.stop('SIGINT')).status, 0);

    const brief = ['--publisher', mirror, '--no-upstream', '--seed-for', '200ms', ...ALONE];
    const last = await fetch(other, brief);
    assert.equal(last.status, 0, last.stderr);
    assert.ok(last.events.some(({ event }) => event === 'seeding'));
  });

  test('--max-download-rate limits caches and peers', async () => {
    const rateBytesPerSec = 800_000;
    const limit = ['--max-download-rate', '800kB/s'];
    // A second's worth may come in a burst.
    const leastMs = (totalBytes / rateBytesPerSec - 1) * 1000;
    const store = await lab.folder('store');
    const { ready } = await daemon(store, ALONE);
    const run = await fetch(store, ['--from', upstream.url, '--publisher', mirror, ...limit, ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.ok(Number(run.event('done')['durationMs']) >= leastMs, 'from the cache');
    await untilAllServed(ready['port'], store);
    const peer = ['--peer', `127.0.0.1:${String(ready['port'])}`];
    const other = await lab.folder('store');
    const second = await fetch(other, ['--no-upstream', '--publisher', mirror, ...peer, ...limit, ...ALONE]);
    assert.equal(second.status, 0, second.stderr);
    assert.ok(Number(second.event('done')['durationMs']) >= leastMs, 'from a peer');
    assert.equal((second.event('done')['bytes'] as { peers: number }).peers, totalBytes);
  });

  test('a daemon refuses contradictory settings', async () => {
    const store = ['--store', await lab.folder('store')];
    const off = await lab.run(['daemon', ...store, '--scope', 'off']);
    assert.deepEqual([off.status, off.event('error')['code']], [2, 'USAGE']);
    const mute = await lab.run(['daemon', ...store, '--scope', 'cohort', '--no-dht']);
    assert.equal(mute.status, 2);
    assert.match(mute.stderr, /--scope cohort announces in the DHT and --no-dht forbids it/);
  });

  test('with several roots and hash maps, each path comes from the hash map that has it', async () => {
    const second = await lab.closure([40_000], 'second');
    const keys = ['--trusted-public-key', made.publicKey, '--trusted-public-key', second.publicKey];
    const cacheDir = await lab.folder('cache');
    await cp(made.cacheDir, cacheDir, { recursive: true });
    const one = await lab.publisher({ ...made, cacheDir }, ALONE);
    const two = await lab.publisher(second, ['--salt', 'two', '--root', `two=${second.root}`, ...ALONE]);
    const store = await lab.folder('store');
    const maps = ['--publisher', one.mirror, '--publisher', two.mirror, '--no-upstream', '--no-copy'];
    const run = await lab.run(['fetch', made.root, 'two', '--store', store, ...maps, ...keys, ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([run.event('done')['paths'], run.event('done')['peers']], [8, 2]);
    const names = await readNarInfos(store);
    assert.equal(names.size, 8);
  });

  test('a damaged narinfo of the store is written again', async () => {
    const store = await lab.folder('store');
    assert.equal((await fetch(store, ['--from', upstream.url])).status, 0);
    const file = join(store, `${made.root.slice('/nix/store/'.length).slice(0, 32)}.narinfo`);
    await writeFile(file, (await readFile(file)).subarray(0, 100));
    const run = await fetch(store, ['--from', upstream.url]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal((run.event('done')['bytes'] as { upstream: number }).upstream, 0);
    await assertSound(store, made.publicKey);
  });
});
