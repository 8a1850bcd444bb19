/** Peers have everything and the upstream is down, or the other way round: the update completes, and soon. */
import assert from 'node:assert/strict';
import { cp, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { startHttpCache, type Fault } from '../support/http-cache.ts';
import {
  ALONE,
  assertSound,
  Lab,
  mirrorOf,
  narBytesOf,
  readNarInfos,
  type Run,
  type RunningPublisher,
} from '../support/lab.ts';
import { startSilentPeer } from '../support/silent-peer.ts';
import { Machine, updated } from '../support/update-lab.ts';

/** Less than one stall of an upstream, which takes five minutes. */
const SOON_MS = 180_000;

/** The tests wait more than they work. */
describe('sources of an update', { concurrency: 4 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let totalBytes: number;
  let large: NarInfo;
  let publisher: RunningPublisher;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([60_000, 20_000, 10_000]);
    totalBytes = await narBytesOf(made.cacheDir);
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    large = infos.toSorted((a, b) => (b.fileSize ?? 0) - (a.fileSize ?? 0))[0]!;
    publisher = await lab.publisher(made, ALONE);
  });
  after(() => lab[Symbol.asyncDispose]());

  const machineOf = (source: string, flags: readonly string[]): Promise<Machine> =>
    Machine.of(lab, { desktop: { source } }, ['--trusted-public-key', made.publicKey, ...flags]);
  const bytesOf = (run: Run): { store: number; peers: number; upstream: number } =>
    updated(run)['bytes'] as { store: number; peers: number; upstream: number };
  const assertComplete = async (machine: Machine, run: Run): Promise<void> => {
    assert.equal(run.status, 0, run.stderr);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 6);
    const { health, lastRun } = await machine.statusOf('desktop');
    assert.equal(health, 'complete');
    assert.deepEqual((lastRun as { bytes: unknown }).bytes, bytesOf(run));
  };

  const down: readonly (readonly [string, Fault | undefined])[] = [
    ['refuses connections', undefined],
    ['answers nothing', { kind: 'stall-headers' }],
    ['answers 500', { kind: 'status', status: 500 }],
    ['has no NAR', { kind: 'status', status: 404, match: /^\/nar\// }],
  ];
  for (const [what, fault] of down) {
    test(`if the upstream ${what}, a named root comes from peers`, async () => {
      const cache = lab.use(await startHttpCache(made.cacheDir));
      if (fault === undefined) await cache.stop();
      else cache.faults = [fault];
      const machine = await machineOf(`${publisher.mirror}#lab`, ['--from', cache.url]);
      const run = await machine.update();
      await assertComplete(machine, run);
      assert.deepEqual(bytesOf(run), { store: 0, peers: totalBytes, upstream: 0 });
      assert.equal(updated(run)['savedBytes'], totalBytes);
      assert.partialDeepStrictEqual(updated(run)['groups'], { neighbours: { senders: 1, bytes: totalBytes } });
      assert.ok(Number(updated(run)['durationMs']) < SOON_MS, String(updated(run)['durationMs']));
      const again = await machine.update();
      assert.deepEqual(bytesOf(again), { store: totalBytes, peers: 0, upstream: 0 });
    });

    test(`if the upstream ${what}, a store path comes from peers`, async () => {
      const cache = lab.use(await startHttpCache(made.cacheDir));
      if (fault === undefined) await cache.stop();
      else cache.faults = [fault];
      const machine = await machineOf(made.root, ['--from', cache.url, '--publisher', publisher.mirror]);
      const run = await machine.update();
      await assertComplete(machine, run);
      assert.deepEqual(bytesOf(run), { store: 0, peers: totalBytes, upstream: 0 });
      assert.ok(Number(updated(run)['durationMs']) < SOON_MS, String(updated(run)['durationMs']));
    });
  }

  test('wrong bytes of peers never reach the store, and the NARs come from the upstream', async () => {
    const store = await lab.folder('rotten');
    await cp(made.cacheDir, store, { recursive: true, preserveTimestamps: true });
    const rotten = await lab.publisher({ ...made, cacheDir: store }, ALONE);
    const path = join(store, large.url);
    const { atime, mtime } = await stat(path);
    const bytes = await readFile(path);
    bytes[bytes.length >> 1]! ^= 1;
    await writeFile(path, bytes);
    await utimes(path, atime, mtime);
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const machine = await machineOf(`${rotten.mirror}#lab`, ['--from', cache.url]);
    const run = await machine.update();
    await assertComplete(machine, run);
    const { upstream } = bytesOf(run);
    assert.ok(upstream >= (large.fileSize ?? 0), JSON.stringify(bytesOf(run)));
    assert.ok(Number(updated(run)['savedBytes']) <= totalBytes - upstream, 'wrong bytes save nothing');
    assert.equal(
      cache.requests.some(({ url }) => url === `/${large.url}`),
      true,
    );
  });

  test('if peers accept and stay silent, everything soon comes from the upstream', async () => {
    const { address, sockets } = lab.use(await startSilentPeer());
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
    const store = await lab.folder('published');
    await cp(made.cacheDir, store, { recursive: true });
    const once_ = ['publish', '--once', ...what.with(1, store), '--key', lab.path('key'), '--hint', address];
    const published = (await lab.run(once_)).event('published');
    const { url } = lab.use(await startHttpCache(String(published['dir'])));
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const machine = await machineOf(`${mirrorOf(String(published['address']), url)}#lab`, ['--from', cache.url]);
    const run = await machine.update();
    await assertComplete(machine, run);
    assert.ok(sockets.size > 0, 'the peer was asked');
    assert.deepEqual(bytesOf(run), { store: 0, peers: 0, upstream: totalBytes });
    assert.ok(Number(updated(run)['durationMs']) < SOON_MS);
  });
});
