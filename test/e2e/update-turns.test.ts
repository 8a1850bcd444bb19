/** Two updates on one store: one works, the other waits for it, or says that it will not. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { hangingProgram, type HangingProgram } from '../support/hanging-program.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { assertFailure, assertSound, Lab, type CliProcess } from '../support/lab.ts';
import { Machine, until, updated } from '../support/update-lab.ts';

describe('two updates on one store', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([20_000, 10_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A first update, which has all NARs and waits for the disk. */
  const begin = async (): Promise<{ machine: Machine; cache: HttpCache; first: CliProcess; sync: HangingProgram }> => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const flags = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', made.publicKey];
    const machine = await Machine.of(lab, { desktop: { source: made.root } }, flags);
    const sync = await hangingProgram(lab, 'sync');
    const first = machine.start([], { env: sync.env });
    await until(async () => (await sync.pid()) !== undefined, first);
    cache.resetCounts();
    return { machine, cache, first, sync };
  };

  test('the second one waits, says so, and finds nothing to do', async () => {
    const { machine, cache, first, sync } = await begin();
    const second = machine.start();
    assert.deepEqual((await second.event('waiting'))['store'], machine.store);
    await sync.release();
    assert.equal(updated(await first.end())['outcome'], 'complete');
    const run = await second.end();
    assert.equal(run.status, 0, run.stderr);
    const { outcome, generation, nars } = updated(run);
    assert.deepEqual({ outcome, generation, nars }, { outcome: 'complete', generation: 1, nars: 0 });
    assert.equal(run.events.filter(({ event }) => event === 'waiting').length, 1, 'once is enough');
    assert.deepEqual(cache.requests, []);
    await assertSound(machine.store, made.publicKey);
  });

  test('with --no-wait the second one is refused; a dry run and status are not', async () => {
    const { machine, first, sync } = await begin();
    const refused = await machine.update(['--no-wait']);
    assertFailure(
      refused,
      7,
      'STORE_BUSY',
      new RegExp(`another narswarm update is running on ${machine.store}: .*--no-wait`),
    );
    assert.equal(updated(await machine.update(['--dry-run']))['outcome'], 'dry-run');
    const { health, isUpdating } = await machine.statusOf('desktop');
    assert.deepEqual([health, isUpdating], ['never', true]);
    const { stdout } = await lab.runPlain(['status', 'desktop', '--store', machine.store], {
      env: { NARSWARM_CONFIG: machine.config },
    });
    assert.equal(stdout, 'desktop: never updated\n  note      an update is running on this store\n');
    await sync.release();
    assert.equal((await first.end()).status, 0);
    assert.equal((await machine.statusOf('desktop'))['isUpdating'], false);
    assert.equal((await machine.update(['--no-wait'])).status, 0);
  });

  test('if one is killed, the other continues', async () => {
    const { machine, cache, first } = await begin();
    const second = machine.start();
    await second.event('waiting');
    await first.stop('SIGKILL');
    const run = await second.end();
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([updated(run)['outcome'], updated(run)['nars']], ['complete', 0]);
    assert.deepEqual(
      cache.requests.filter(({ url }) => url.startsWith('/nar/')),
      [],
    );
  });

  test('if one is killed, a later one with --no-wait can start', async () => {
    const { machine, first } = await begin();
    await first.stop('SIGKILL');
    assert.equal((await machine.update(['--no-wait'])).status, 0);
  });

  test('a waiting one can be interrupted', async () => {
    const { machine, first } = await begin();
    const second = machine.start();
    await second.event('waiting');
    assertFailure(await second.stop('SIGINT'), 130, 'INTERRUPTED', /interrupted/);
    await first.stop('SIGKILL');
  });

  test('if both begin at the same time, both succeed', async () => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const flags = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', made.publicKey];
    const machine = await Machine.of(lab, { desktop: { source: made.root } }, flags);
    const runs = await Promise.all([machine.update(), machine.update(), machine.update()]);
    for (const run of runs) assert.equal(run.status, 0, run.stderr);
    const fetched = runs.map((run) => Number(updated(run)['nars'])).toSorted((a, b) => a - b);
    assert.deepEqual(fetched, [0, 0, 4], 'one has fetched');
    await assertSound(machine.store, made.publicKey);
  });
});
