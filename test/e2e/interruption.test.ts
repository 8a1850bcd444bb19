/** Killed, interrupted and concurrent fetches keep every verified byte and a sound store. */
import assert from 'node:assert/strict';
import { cp, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import {
  ALONE,
  assertFailure,
  assertSound,
  Lab,
  narBytesOf,
  readNarInfos,
  requisites,
  type CliProcess,
} from '../support/lab.ts';
import { partialBytes } from '../support/partial-bytes.ts';

const MB = 1_000_000;

describe('interruption', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let upstream: HttpCache;
  let fromPeers: readonly string[];
  let totalBytes: number;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([6 * MB, 50_000, 5_000]);
    totalBytes = await narBytesOf(made.cacheDir);
    upstream = lab.use(await startHttpCache(made.cacheDir));
    const { mirror } = await lab.publisher(made, ALONE);
    fromPeers = ['--publisher', mirror, '--no-upstream', ...ALONE];
  });
  after(() => lab[Symbol.asyncDispose]());

  const args = (store: string, rest: readonly string[]): string[] => {
    return ['fetch', made.root, '--store', store, '--trusted-public-key', made.publicKey, ...rest];
  };
  /** Starts a fetch that is slow enough to be caught in the middle of the large NAR, and waits until it is there. */
  const startSlow = async (store: string, rest: readonly string[]): Promise<CliProcess> => {
    const slow = lab.start(args(store, ['--no-copy', '--max-download-rate', '1500kB/s', ...rest]));
    while ((await partialBytes(store)) < 2 * MB) {
      assert.ok(
        !slow.events.some(({ event }) => event === 'done' || event === 'error'),
        'it was too fast to be caught',
      );
      await sleep(20);
    }
    return slow;
  };

  test('after kill -9 in the middle of a NAR, the next fetch from peers keeps the verified pieces', async () => {
    const store = await lab.folder('store');
    const killed = await (await startSlow(store, fromPeers)).stop('SIGKILL');
    assert.equal(killed.signal, 'SIGKILL');
    const { narInfos } = await assertSound(store, made.publicKey);
    assert.deepEqual(narInfos, []);
    const held = await partialBytes(store);
    const { stdout } = await lab.runPlain(args(store, ['--no-copy', '--dry-run', ...fromPeers]));
    assert.match(
      stdout,
      /^6 paths: \d NARs? to fetch \(6\.\d+ MB, [23]\.\d+ MB of it already here, \d with a torrent\)/,
    );
    const to = `local?root=${await lab.folder('target')}`;
    const run = await lab.run(args(store, ['--to', to, ...fromPeers]));
    assert.equal(run.status, 0, run.stderr);
    const { peers } = run.event('done')['bytes'] as { peers: number };
    // At most the piece that was being written is lost.
    assert.ok(peers <= totalBytes - held + 1.1 * MB, `${peers} bytes came anew, ${held} of ${totalBytes} were held`);
    assert.equal((await assertSound(store, made.publicKey)).narInfos.length, 6);
    assert.equal(requisites(to, made.root).length, 6);
    assert.deepEqual(await readdir(join(store, 'narswarm', 'partial')), []);
  });

  test('after kill -9 between the last byte of a NAR and its rename, nobody is asked for it again', async () => {
    const store = await lab.folder('store');
    await (await startSlow(store, fromPeers)).stop('SIGKILL');
    const parent = join(store, 'narswarm', 'partial');
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const large = infos.toSorted((a, b) => b.fileSize! - a.fileSize!)[0]!;
    const left = (await readdir(parent, { recursive: true })).filter((name) => basename(name) === large.fileHash);
    assert.equal(left.length, 1);
    await cp(join(made.cacheDir, large.url), join(parent, left[0]!));
    const run = await lab.run(args(store, ['--no-copy', ...fromPeers]));
    assert.equal(run.status, 0, run.stderr);
    const { peers } = run.event('done')['bytes'] as { peers: number };
    assert.ok(peers <= totalBytes - large.fileSize!, `${peers} bytes came`);
    assert.equal((await assertSound(store, made.publicKey)).narInfos.length, 6);
  });

  test('after kill -9 in the middle of a NAR, the next fetch from a cache continues by Range', async () => {
    const store = await lab.folder('store');
    const own = lab.use(await startHttpCache(made.cacheDir));
    const killed = await (await startSlow(store, ['--from', own.url])).stop('SIGKILL');
    assert.equal(killed.signal, 'SIGKILL');
    await assertSound(store, made.publicKey);
    const held = await partialBytes(store);
    const again = args(store, ['--no-copy', '--from', own.url]);
    const dry = await lab.run([...again, '--dry-run']);
    own.resetCounts();
    const run = await lab.run(again);
    assert.equal(run.status, 0, run.stderr);
    assert.ok(own.bytesSent() <= totalBytes - held + 0.6 * MB, `${own.bytesSent()} bytes came anew, ${held} were held`);
    assert.ok(own.requests.some(({ status }) => status === 206));
    const { total, store: kept } = run.event('done')['bytes'] as { total: number; store: number };
    assert.equal(total, totalBytes, 'what an earlier run has left belongs to the whole');
    assert.ok(kept > 0);
    for (const { partialBytes: begun, bytes } of [dry.event('plan'), run.event('plan')])
      assert.equal(begun, kept - (totalBytes - Number(bytes)), 'the plan tells how much of its NARs is here');
    assert.equal((await assertSound(store, made.publicKey)).narInfos.length, 6);
  });

  test('a cache completes a NAR that peers began, and peers one that a cache began', async () => {
    for (const [first, second] of [
      [fromPeers, ['--from', upstream.url]],
      [['--from', upstream.url], fromPeers],
    ] as const) {
      const store = await lab.folder('store');
      await (await startSlow(store, first)).stop('SIGKILL');
      const held = await partialBytes(store);
      const run = await lab.run(args(store, ['--no-copy', ...second]));
      assert.equal(run.status, 0, run.stderr);
      const { peers, upstream: cache } = run.event('done')['bytes'] as { peers: number; upstream: number };
      // The cache is asked without a hash map. At most the piece that was being written is lost.
      assert.ok(peers + cache <= totalBytes - held + 1.1 * MB, `${peers + cache} bytes came anew, ${held} were held`);
      assert.equal((await assertSound(store, made.publicKey)).narInfos.length, 6);
    }
  });

  test('Ctrl-C ends with 130 and leaves no narinfo without its NAR', async () => {
    for (const rest of [fromPeers, ['--from', upstream.url]]) {
      const store = await lab.folder('store');
      const slow = await startSlow(store, rest);
      const run = await slow.stop('SIGINT');
      assertFailure(run, 130, 'INTERRUPTED', /interrupted; run the same command again to continue/);
      await assertSound(store, made.publicKey);
      const again = await lab.run(args(store, ['--no-copy', ...rest]));
      assert.equal(again.status, 0, again.stderr);
      const { peers, upstream: cache } = again.event('done')['bytes'] as { peers: number; upstream: number };
      assert.ok(peers + cache < totalBytes - MB, 'what had come was kept');
      await assertSound(store, made.publicKey);
    }
  });

  test('a fetch of slow NARs that is stopped again and again fetches no byte twice', async () => {
    const many = await lab.closure([2 * MB, ...Array.from({ length: 12 }, () => 300_000)]);
    const own = lab.use(await startHttpCache(many.cacheDir));
    const store = await lab.folder('store');
    const flags = ['--store', store, '--trusted-public-key', many.publicKey, '--no-copy', '--from', own.url];
    const narBytes = (): number =>
      own.requests.reduce((sum, { url, bytes }) => sum + (url.startsWith('/nar/') ? bytes : 0), 0);
    for (const [untilBytes, signal] of [
      [MB, 'SIGINT'],
      [2 * MB, 'SIGTERM'],
      [3 * MB, 'SIGINT'],
    ] as const) {
      own.faults = [{ match: /^\/nar\//, kind: 'slow', rateBytesPerSec: 100_000 }];
      const slow = lab.start(['fetch', many.root, ...flags]);
      while (narBytes() < untilBytes) {
        assert.ok(!slow.events.some(({ event }) => event === 'done' || event === 'error'), slow.stderr);
        await sleep(20);
      }
      assertFailure(await slow.stop(signal), 130, 'INTERRUPTED', /interrupted/);
      await assertSound(store, many.publicKey);
    }
    own.faults = [];
    const run = await lab.run(['fetch', many.root, ...flags]);
    assert.equal(run.status, 0, run.stderr);
    const whole = await narBytesOf(many.cacheDir);
    // Bytes that were still in the sockets are lost.
    assert.ok(narBytes() <= whole + 0.2 * MB, `${narBytes()} bytes came for ${whole}`);
    await assertSound(store, many.publicKey);
    assert.deepEqual(await readdir(join(store, 'narswarm', 'partial')), []);
  });

  test('two fetches at the same time on one store both succeed', async () => {
    for (const rest of [fromPeers, ['--from', upstream.url]]) {
      const store = await lab.folder('store');
      const targets = [await lab.folder('target'), await lab.folder('target')].map((dir) => `local?root=${dir}`);
      const runs = await Promise.all(targets.map((to) => lab.run(args(store, ['--to', to, ...rest]))));
      for (const run of runs) assert.equal(run.status, 0, run.stderr);
      for (const to of targets) assert.equal(requisites(to, made.root).length, 6);
      assert.equal((await assertSound(store, made.publicKey)).narInfos.length, 6);
      assert.deepEqual(await readdir(join(store, 'narswarm', 'partial')), []);
    }
  });

  test('a publisher and a daemon end on SIGTERM and SIGINT with 0', async () => {
    const cacheDir = await lab.folder('own'); // beside the other tests' publisher, whose map is of another key
    await cp(made.cacheDir, cacheDir, { recursive: true });
    const { process } = await lab.publisher({ ...made, cacheDir }, ALONE);
    const ended = await process.stop('SIGTERM');
    assert.deepEqual([ended.status, ended.stderr], [0, '']);
    const trust = ['--trusted-public-key', made.publicKey];
    const daemon = await lab.service(['daemon', '--store', await lab.folder('store'), ...trust, ...ALONE]);
    const stopped = await daemon.process.stop('SIGINT');
    assert.deepEqual([stopped.status, stopped.stderr], [0, '']);
  });
});
