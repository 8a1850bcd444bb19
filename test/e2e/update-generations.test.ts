/** Old, expired and missing hash maps: held paths stay, and the update fails. */
import assert from 'node:assert/strict';
import { cp, rm } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { loadPublisherKey } from '../../src/index/publisher-key.ts';
import type { InfoHash } from '../../src/nix/brands.ts';
import type { Subscription } from '../../src/subscription/subscription.ts';
import { linesOf } from '../../src/cli/commands/status.ts';
import { readStatus } from '../../src/subscription/state/status.ts';
import { nextGeneration } from '../support/generations.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { assertFailure, assertSound, Lab, mirrorOf, type CliEvent, type Run } from '../support/lab.ts';
import { Machine, updated } from '../support/update-lab.ts';

describe('publishers with an old hash map', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let key: string;
  let older: Published;
  let newer: Published;
  /** Of the newer one, and late. */
  let expired: Published;

  interface Published {
    readonly dir: string;
    readonly address: string;
    readonly built: CliEvent;
  }

  const publish = async (args: readonly string[] = []): Promise<Published> => {
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
    const run = await lab.run(['publish', '--once', '--key', key, ...what, ...args]);
    assert.equal(run.status, 0, run.stderr);
    const dir = await lab.folder('map');
    const { dir: from, address } = run.event('published');
    await cp(String(from), dir, { recursive: true });
    return { dir, address: String(address), built: run.event('built') };
  };

  before(async () => {
    lab = await Lab.open();
    key = lab.path('key');
    made = await lab.closure([20_000, 10_000]);
    older = await publish();
    made = await nextGeneration(made, 1, 10_000);
    newer = await publish();
    expired = await publish(['--valid-for', '1s']);
    const expires = Date.parse(String(expired.built['expires']));
    while (Date.now() <= expires) await sleep(expires - Date.now() + 1);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A mirror that serves what it is given, and a machine that follows it. */
  const scene = async (
    root = '#lab',
  ): Promise<{
    machine: Machine;
    mirror: HttpCache;
    serve: (map: Published) => Promise<void>;
    subscription: Subscription;
  }> => {
    const dir = await lab.folder('mirror');
    const mirror = lab.use(await startHttpCache(dir));
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const source = `${mirrorOf(newer.address, mirror.url)}${root}`;
    const machine = await Machine.of(lab, { desktop: { source } }, [
      '--from',
      cache.url,
      '--trusted-public-key',
      made.publicKey,
    ]);
    return {
      machine,
      mirror,
      async serve(map) {
        for (const name of ['manifest', 'shards']) await rm(`${dir}/${name}`, { recursive: true, force: true });
        await cp(map.dir, dir, { recursive: true });
      },
      subscription: { name: 'desktop', source, import: false, sources: false, ready: false, publish: false },
    };
  };
  /** Fails unless the complete generation stays, and every report says why it is not newer. */
  const assertKept = async (machine: Machine, run: Run, code: string, says: RegExp): Promise<void> => {
    assertFailure(run, 6, code, says);
    assert.equal(updated(run)['code'], code);
    const { generations, lastRun, completeAsOf, missing } = await machine.state('desktop');
    assert.deepEqual([generations.length, generations[0]?.complete, generations[0]?.roots], [1, true, [made.root]]);
    assert.deepEqual(missing, []);
    assert.match(lastRun?.failure?.reason ?? '', says);
    assert.ok(completeAsOf !== undefined && completeAsOf < (lastRun?.at ?? ''), 'complete as of then, not as of now');
    const { health, completeAsOf: told } = await machine.statusOf('desktop');
    assert.deepEqual([health, told], ['stale', completeAsOf]);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 4);
  };

  test('an older edition from a mirror is INDEX_ROLLBACK', async () => {
    const { machine, serve } = await scene();
    await serve(newer);
    assert.equal((await machine.update()).status, 0);
    await serve(older);
    const says = new RegExp(`has seq ${String(older.built['seq'])}, but ${String(newer.built['seq'])} was seen before`);
    await assertKept(machine, await machine.update(['--max-size', '0']), 'INDEX_ROLLBACK', says);
    const { map } = await machine.statusOf('desktop');
    assert.equal((map as { seq: number }).seq, newer.built['seq']);
    await serve(newer);
    assert.deepEqual(
      [updated(await machine.update())['outcome'], (await machine.statusOf('desktop'))['health']],
      ['complete', 'complete'],
    );
  });

  test('an older edition from the DHT is INDEX_ROLLBACK', async () => {
    const { machine, serve } = await scene();
    await serve(newer);
    assert.equal((await machine.update()).status, 0);
    const { bootstrap, nodes } = await lab.dht(3);
    const signer = await loadPublisherKey(key);
    const put = await nodes[0]?.putMutable({
      publicKey: signer.publicKey,
      salt: Buffer.alloc(0),
      seq: Number(older.built['seq']),
      infoHash: 'ab'.repeat(20) as InfoHash,
      sign: (message) => signer.sign(message),
    });
    assert.ok((put?.nodes ?? 0) > 0);
    await machine.subscribe({ magnet: { source: `${newer.address}#lab` } });
    const flags = bootstrap.flatMap(({ host, port }) => ['--dht-bootstrap', `${host}:${port}`]);
    const update = ['update', '--store', machine.store, '--no-upstream', '--trusted-public-key', made.publicKey];
    const network = ['--listen', '127.0.0.1', '--no-lan', ...flags, '--publisher-timeout', '2s'];
    const run = await lab.run([...update, ...network], { env: { NARSWARM_CONFIG: machine.config } });
    const says = new RegExp(
      `the DHT has seq ${String(older.built['seq'])} of .*, but ${String(newer.built['seq'])} was seen before`,
    );
    assertFailure(run, 6, 'INDEX_ROLLBACK', says);
    const { generations, lastRun } = await machine.state('magnet');
    assert.deepEqual(
      [generations[0]?.roots, lastRun?.outcome],
      [[made.root], 'incomplete'],
      'the newest that was ever seen',
    );
  });

  test('an expired edition is INDEX_EXPIRED', async () => {
    const { machine, serve, subscription } = await scene();
    await serve(newer);
    assert.equal((await machine.update()).status, 0);
    await serve(expired);
    const says = new RegExp(`the manifest expired at ${String(expired.built['expires'])}`);
    await assertKept(machine, await machine.update(), 'INDEX_EXPIRED', says);
    await serve(newer);
    assert.equal((await machine.update()).status, 0);
    const now = await readStatus(subscription, machine.store, new Date());
    const later = await readStatus(subscription, machine.store, new Date(Date.parse(String(newer.built['expires']))));
    assert.deepEqual([now.health, later.health, later.map?.isExpired], ['complete', 'stale', true]);
    assert.deepEqual([now.failure, later.failure?.code], [undefined, 'INDEX_EXPIRED'], 'what status --check ends with');
    const text = await lab.runPlain(['status', '--store', machine.store], { env: { NARSWARM_CONFIG: machine.config } });
    assert.match(
      text.stdout,
      /^desktop: complete as of .* \(generation 1(?:, since .*)?\)\n(?: .*\n)+ +hash map .*; expires /,
    );
    assert.match(
      [...linesOf(later)].join('\n'),
      /^desktop: its hash map has expired; last complete as of .*; expired /s,
    );
  });

  test('an expired edition that was never seen before tells nothing', async () => {
    const { machine, serve } = await scene();
    await serve(expired);
    assertFailure(await machine.update(), 6, 'INDEX_EXPIRED', /the manifest expired at/);
    const { generations, lastRun } = await machine.state('desktop');
    assert.deepEqual([generations, lastRun?.outcome], [[], 'failed']);
    assert.equal((await machine.statusOf('desktop'))['health'], 'incomplete');
  });

  test('without a hash map, a named root stays as it was, with a note', async () => {
    const { machine, mirror, serve } = await scene();
    await serve(newer);
    assert.equal((await machine.update()).status, 0);
    await mirror.stop();
    const run = await machine.update();
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([updated(run)['outcome'], updated(run)['generation']], ['complete', 1]);
    const [note] = (await machine.state('desktop')).notes;
    assert.ok(typeof note === 'object' && note.kind === 'kept-map');
    assert.match(note.failure.reason, /no hash map from its mirror: /);
    const [told] = updated(run)['notes'] as string[];
    assert.match(told ?? '', /no hash map from its mirror: .*; the hash map of .* is used/);
  });

  test('without a hash map, a subscription to all of it fails, even with a cache', async () => {
    const { machine, mirror } = await scene('');
    await mirror.stop();
    assertFailure(await machine.update(), 6, 'INDEX_UNREACHABLE', /no hash map from its mirror/);
    const { generations, lastRun } = await machine.state('desktop');
    assert.deepEqual([generations, lastRun?.outcome], [[], 'failed'], 'nothing was asked for, and nothing is complete');
  });

  test('a subscription to a whole hash map brings all its paths', async () => {
    const { machine, serve } = await scene('');
    await serve(newer);
    const run = await machine.update();
    assert.equal(run.status, 0, run.stderr);
    assert.ok(Number(updated(run)['paths']) >= 4);
    assert.equal((await machine.statusOf('desktop'))['health'], 'complete');
  });
});
