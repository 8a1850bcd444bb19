/** An update that is killed with SIGKILL in each of its phases: the next one continues from there. */
import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import {
  assertSound,
  Lab,
  narBytesOf,
  readNarInfos,
  requisites,
  type CliProcess,
  type Run,
  type StoreContents,
} from '../support/lab.ts';
import { hangingProgram } from '../support/hanging-program.ts';
import { partialBytes } from '../support/partial-bytes.ts';
import { stallAt } from '../support/stall-at.ts';
import { machineWithCache, Machine, until, updated, type Subscribed } from '../support/update-lab.ts';

const BLOBS = [1_300_000, 30_000, 20_000];
/** Bytes are written to the disk in blocks of this size. */
const BLOCK_BYTES = 512 * 1024;
const PATHS = BLOBS.length * 2;

/** The phases wait more than they work. */
describe('an update killed while it', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let totalBytes: number;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure(BLOBS);
    totalBytes = await narBytesOf(made.cacheDir);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A machine that follows the closure, and a cache of its own that counts. */
  const scene = (more: Partial<Subscribed> = {}): ReturnType<typeof machineWithCache> =>
    machineWithCache(lab, made, more);

  /** Kills it, examines the store, and lets the next update finish: no stored byte is fetched again. */
  const killAndFinish = async (
    machine: Machine,
    cache: HttpCache,
    killed: CliProcess,
    args: readonly string[] = [],
  ): Promise<StoreContents & { fetched: number; run: Run }> => {
    assert.equal((await killed.stop('SIGKILL')).signal, 'SIGKILL');
    const left = await assertSound(machine.store, made.publicKey, { afterKill: true });
    cache.faults = [];
    cache.resetCounts();
    const next = await machine.update(args);
    assert.equal(next.status, 0, next.stderr);
    const again = cache.requests.filter(({ url }) => left.nars.includes(url.slice('/nar/'.length)));
    assert.deepEqual(again, [], 'what lay in the store was fetched once more');
    assert.deepEqual([updated(next)['outcome'], updated(next)['generation']], ['complete', 1]);
    const { narInfos } = await assertSound(machine.store, made.publicKey, { afterKill: true });
    assert.equal(narInfos.length, PATHS);
    const { health, generation, missing } = await machine.statusOf('desktop');
    assert.deepEqual({ health, generation, missing }, { health: 'complete', generation: 1, missing: [] });
    for (const folder of ['updating', 'collecting', 'publishing'])
      assert.deepEqual(await readdir(join(machine.store, 'narswarm', folder)).catch(() => []), [], folder);
    return { ...left, fetched: bytesOfNars(cache), run: next };
  };

  test('asks for a list', async () => {
    const { machine, cache } = await scene();
    const lists = await lab.folder('lists');
    await writeFile(join(lists, 'paths'), `${made.root}\n`);
    const server = lab.use(await startHttpCache(lists));
    server.faults = [{ kind: 'stall-headers' }];
    await machine.subscribe({ desktop: { source: `${server.url}/paths` } });
    const update = machine.start();
    await until(() => server.requests.length > 0, update);
    await update.stop('SIGKILL');
    const { health, lastRun } = await machine.statusOf('desktop');
    assert.deepEqual([health, lastRun], ['never', null]);
    server.faults = [];
    assert.equal((await killAndFinish(machine, cache, update)).fetched, totalBytes);
  });

  test('asks for a publisher’s map', async () => {
    const { machine, cache } = await scene();
    const { process: publisher, mirror } = await lab.publisher(made, ['--listen', '127.0.0.1', '--no-lan', '--no-dht']);
    await publisher.stop();
    const silent = lab.use(await startHttpCache(await lab.folder('silent')));
    silent.faults = [{ kind: 'stall-headers' }];
    await machine.subscribe({
      desktop: { source: `${mirror.replace(/127\.0\.0\.1:\d+/, new URL(silent.url).host)}#lab` },
    });
    const update = machine.start();
    await until(() => silent.requests.length > 0, update);
    await update.stop('SIGKILL');
    await machine.subscribe({ desktop: { source: made.root } });
    await killAndFinish(machine, cache, update);
  });

  test('walks the closure', async () => {
    const { machine, cache } = await scene();
    cache.faults = [{ match: new RegExp(await hashOfPath(made, 'lab-blob-1')), kind: 'stall-headers' }];
    const update = machine.start();
    const early = [await narInfoOf(made, 'lab-0'), await narInfoOf(made, 'lab-blob-2')].map(({ url }) => url.slice(4));
    await until(async () => (await narsOf(machine)).length === early.length, update);
    const { nars } = await killAndFinish(machine, cache, update);
    assert.deepEqual(nars.toSorted(), early.toSorted(), 'small NARs of complete paths');
  });

  test('downloads a small NAR', async () => {
    const { machine, cache } = await scene();
    const info = await narInfoOf(made, 'lab-1');
    cache.faults = [{ match: new RegExp(`^/${info.url}$`), kind: 'stall', afterBytes: 100 }];
    const update = machine.start();
    await until(async () => (await narsOf(machine)).length === PATHS - 1, update);
    const { fetched } = await killAndFinish(machine, cache, update);
    assert.equal(fetched, info.fileSize, 'that one alone');
  });

  test('downloads a large NAR', async () => {
    const { machine, cache } = await scene();
    const info = await narInfoOf(made, 'lab-blob-0');
    cache.faults = [{ match: new RegExp(`^/${info.url}$`), kind: 'stall', afterBytes: 2 * BLOCK_BYTES + 1000 }];
    const update = machine.start();
    const isFar = async (): Promise<boolean> =>
      (await narsOf(machine)).length === PATHS - 1 && (await partialBytes(machine.store)) >= 2 * BLOCK_BYTES;
    await until(isFar, update);
    await update.stop('SIGKILL');
    await machine.subscribe({ desktop: { source: made.root }, again: { source: info.storePath } });
    const dry = await machine.update(['--dry-run']);
    const size = { bytes: { total: info.fileSize }, partialBytes: 2 * BLOCK_BYTES };
    for (const told of [updated(dry, 'desktop'), updated(dry, 'again'), dry.event('done')])
      assert.deepEqual({ bytes: told['bytes'], partialBytes: told['partialBytes'] }, size);
    const plain = await lab.runPlain(machine.updateArgs(['--dry-run']), { env: { NARSWARM_CONFIG: machine.config } });
    const [here, each] = ['1 NAR to fetch (1.30 MB, 1.05 MB of it already here)', /^(?:desktop|again|in all): (.*)$/gm];
    assert.deepEqual(
      Array.from(plain.stdout.matchAll(each), ([, text]) => text),
      [`6 paths, ${here}`, `1 path, ${here}`, here],
    );
    await machine.subscribe({ desktop: { source: made.root } });
    cache.resetCounts();
    const { fetched } = await killAndFinish(machine, cache, update);
    assert.equal(fetched, (info.fileSize ?? 0) - 2 * BLOCK_BYTES, 'the rest of that one alone');
  });

  const calls: readonly (readonly [string, string, RegExp, number, { held: number; written?: number }])[] = [
    ['moves a verified NAR into place', 'renameSync', /\/nar\/[^/]+$/, 3, { held: 0 }],
    ['writes the first narinfo', 'renameSync', /\.narinfo$/, 0, { held: PATHS, written: 0 }],
    ['writes narinfos', 'renameSync', /\.narinfo$/, 4, { held: PATHS, written: 4 }],
    ['lists the NARs in the catalogue', 'open', /^a$/, 0, { held: PATHS, written: PATHS }],
    ['writes the state', 'renameSync', /subscriptions\/desktop\.json$/, 0, { held: PATHS, written: PATHS }],
  ];
  for (const [phase, call, path, count, { held, written }] of calls) {
    test(phase, async () => {
      const { machine, cache } = await scene();
      const update = machine.start([], { env: stallAt(call, path, count) });
      await update.event('stalled');
      const left = await killAndFinish(machine, cache, update);
      assert.ok(left.nars.length >= held, `${left.nars.length} NARs`);
      if (written !== undefined) assert.ok(left.narInfos.length >= written, `${left.narInfos.length} narinfos`);
      if (held === PATHS) assert.equal(left.fetched, 0);
    });
  }

  test('waits for the disk', async () => {
    const { machine, cache } = await scene();
    const { env, pid } = await hangingProgram(lab, 'sync');
    const update = machine.start([], { env });
    await until(async () => (await pid()) !== undefined, update);
    const { nars, narInfos, fetched } = await killAndFinish(machine, cache, update);
    assert.deepEqual([nars.length, narInfos, fetched], [PATHS, [], 0]);
  });

  test('runs nix copy', async () => {
    const to = `local?root=${await lab.folder('target')}`;
    const { machine, cache } = await scene({ import: true, to });
    const { env, pid } = await hangingProgram(lab, 'nix', 'copy');
    const update = machine.start(['--import-with', 'nix-copy'], { env });
    const isCommitted = async (): Promise<boolean> => (await readNarInfos(machine.store)).size === PATHS;
    await until(async () => (await pid()) !== undefined && (await isCommitted()), update);
    const { narInfos, fetched } = await killAndFinish(machine, cache, update);
    assert.deepEqual([narInfos.length, fetched], [PATHS, 0]);
    assert.equal(requisites(to, made.root).length, PATHS);
  });

  test('publishes', async () => {
    for (const stalls of [stallAt('rename', /published\/0\/manifest$/), stallAt('rename', /generations\//)]) {
      const { machine, cache } = await scene({ publish: true });
      const own = ['--publish', '--key', lab.path('key')];
      const update = machine.start(own, { env: stalls });
      await update.event('stalled');
      const { fetched, run } = await killAndFinish(machine, cache, update, own);
      assert.equal(fetched, 0);
      const built = run.event('built')['records'];
      assert.deepEqual(built, PATHS);
    }
  });

  test('collects', async () => {
    const { machine, cache } = await scene();
    assert.equal((await machine.update()).status, 0);
    await machine.subscribe({ desktop: { source: await pathOf(made, 'lab-0') } });
    const budget = ['--max-size', '0', '--keep-generations', '0'];
    const update = machine.start(budget, { env: stallAt('unlink', /\/nar\//, 1) });
    await update.event('stalled');
    await update.stop('SIGKILL');
    await assertSound(machine.store, made.publicKey, { afterKill: true });
    const next = await machine.update(budget);
    assert.equal(next.status, 0, next.stderr);
    assert.equal(bytesOfNars(cache), totalBytes, 'what the subscription keeps was fetched once');
    const { narInfos } = await assertSound(machine.store, made.publicKey, { afterKill: true });
    assert.equal(narInfos.length, 2);
    assert.equal((await machine.statusOf('desktop'))['health'], 'complete');
  });
});

function narsOf({ store }: Machine): Promise<string[]> {
  return readdir(join(store, 'nar')).catch(() => []);
}

function bytesOfNars({ requests }: HttpCache): number {
  return requests.filter(({ url }) => url.startsWith('/nar/')).reduce((sum, { bytes }) => sum + bytes, 0);
}

async function narInfoOf(made: MadeClosure, name: string) {
  const found = [...(await readNarInfos(made.cacheDir)).values()].find(({ storePath }) =>
    storePath.endsWith(`-${name}`),
  );
  assert.ok(found !== undefined);
  return found;
}

async function pathOf(made: MadeClosure, name: string): Promise<string> {
  return (await narInfoOf(made, name)).storePath;
}

async function hashOfPath(made: MadeClosure, name: string): Promise<string> {
  return (await pathOf(made, name)).slice('/nix/store/'.length).slice(0, 32);
}
