/** A daemon that keeps a mirror: it fetches a followed hash map by itself, and replaces its publisher. */
import assert from 'node:assert/strict';
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { freePort } from '../support/free-port.ts';
import {
  assertSound,
  Lab,
  narBytesOf,
  readNarInfos,
  type CliEvent,
  type CliProcess,
  type RunningPublisher,
} from '../support/lab.ts';
import { Machine } from '../support/machine.ts';

/** The files of a cache itself, without those of narswarm. */
const isCache = (path: string): boolean => !path.endsWith('/narswarm');
const LOOPBACK = ['--listen', '127.0.0.1', '--no-lan', '--no-dht'];

suite('a mirror kept by a daemon', () => {
  let lab: Lab;
  let made: MadeClosure;
  let trust: readonly string[];
  let publisher: RunningPublisher;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([60_000, 20_000, 5_000]);
    trust = ['--trusted-public-key', made.publicKey];
    publisher = await lab.publisher(made, LOOPBACK);
  });
  after(() => lab[Symbol.asyncDispose]());

  const updated = (daemon: CliProcess, generation: number): Promise<CliEvent> =>
    daemon.event('subscription', (event) => event['generation'] === generation && event['outcome'] === 'complete');

  test('the daemon fetches the whole hash map by itself', async () => {
    const machine = await Machine.make(lab, { flags: [] });
    await machine.subscribe('mirror', publisher.mirror);
    const { process: daemon } = await machine.service(['daemon', '--no-upstream', ...trust, ...LOOPBACK]);
    const done = await updated(daemon, 1);
    assert.equal(done['name'], 'mirror');
    assert.equal(done['missingCount'], 0);
    await assertSound(machine.store, made.publicKey);
    assert.equal(await narBytesOf(machine.store), await narBytesOf(made.cacheDir));
  });

  test('a subscription to one root, or with an import, is left to update', async () => {
    const machine = await Machine.make(lab, { flags: [] });
    await machine.subscribe('one', `${publisher.mirror}#lab`);
    const { process: daemon } = await machine.service(['daemon', '--no-upstream', ...trust, ...LOOPBACK]);
    await daemon.event('followed');
    await machine.subscribe('mirror', publisher.mirror);
    assert.equal((await daemon.event('subscription'))['name'], 'mirror');
    assert.ok(!daemon.events.some(({ event, name }) => event === 'subscription' && name === 'one'));
  });

  test('of a hash map beyond the budget, whole roots are held as far as they fit', async () => {
    const large = await lab.closure([400_000], 'large');
    const both = await lab.folder('both');
    const pairs = [
      [made, 'small'],
      [large, 'large'],
    ] as const;
    for (const [of] of pairs)
      await cp(of.cacheDir, both, { recursive: true, preserveTimestamps: true, filter: isCache });
    const roots = pairs.flatMap(([of, name]) => ['--root', `${name}=${of.root}`]);
    const keys = pairs.flatMap(([of]) => ['--trusted-public-key', of.publicKey]);
    const key = ['--key', lab.path('key')];
    const { ready } = await lab.service(['publish', '--store', both, ...roots, ...keys, ...key, ...LOOPBACK]);
    const machine = await Machine.make(lab, { flags: [] });
    await machine.subscribe('mirror', String(ready['mirror']));
    const budget = ['--max-size', '300kB'];
    const { process: daemon } = await machine.service(['daemon', '--no-upstream', ...budget, ...keys, ...LOOPBACK]);
    const done = await updated(daemon, 1);
    assert.match(String(done['notes']), /does not fit into --max-size, so it is held only in part: large/);
    assert.equal(await narBytesOf(machine.store), await narBytesOf(made.cacheDir));
  });

  test('subscribe says that a daemon fetches the mirror', async () => {
    const env = { NARSWARM_CONFIG: lab.path('config.toml') };
    await writeFile(env.NARSWARM_CONFIG, '');
    const run = await lab.runPlain(['subscribe', 'mirror', publisher.mirror], { env });
    assert.match(
      run.stdout,
      /a running narswarm daemon fetches it by itself, and narswarm update mirror fetches it now/,
    );
    const one = await lab.runPlain(['subscribe', 'one', `${publisher.mirror}#lab`], { env });
    assert.match(one.stdout, /: narswarm update one fetches it$/m);
  });

  test('a daemon that follows a publisher without a subscription says what to do', async () => {
    const store = ['--store', await lab.folder('store'), '--publisher', publisher.mirror];
    const { process: daemon } = await lab.service(['daemon', ...store, ...trust, ...LOOPBACK]);
    const { message } = await daemon.event('warning');
    assert.match(
      String(message),
      /this daemon holds and fetches nothing of http\S+: to hold all of it, run narswarm subscribe mirror 'http/,
    );
  });

  test('a machine that knows only the mirror gets the hash map and the NARs from it', async () => {
    const machine = await Machine.make(lab, { flags: [] });
    await machine.subscribe('mirror', publisher.mirror);
    const { process: daemon, ready } = await machine.service(['daemon', '--no-upstream', ...trust, ...LOOPBACK]);
    const followed = await daemon.event('followed');
    await updated(daemon, 1);
    await publisher.process.stop('SIGKILL');
    const from = ['--publisher', String(followed['mirror']), '--peer', `127.0.0.1:${String(ready['port'])}`];
    const into = ['--store', await lab.folder('store'), '--no-copy', '--no-upstream'];
    const run = await lab.run(['fetch', 'lab', ...from, ...into, ...trust, ...LOOPBACK]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal((run.event('done')['bytes'] as { peers: number }).peers, await narBytesOf(made.cacheDir));
  });

  test('NARs that nobody had are fetched as soon as a machine that holds them comes back', async () => {
    const rare = await lab.closure([30_000, 20_000], 'rare');
    const keys = ['--trusted-public-key', rare.publicKey];
    const { mirror } = await lab.publisher(rare, LOOPBACK);
    const holder = await Machine.make(lab, { flags: ['--no-upstream', ...keys, ...LOOPBACK] });
    await holder.subscribe('mirror', mirror);
    await holder.updated();
    const serve = ['daemon', '--no-upstream', ...keys, ...LOOPBACK];
    const [large = ''] = Array.from(await readNarInfos(rare.cacheDir), ([, info]) => info)
      .toSorted((a, b) => b.narSize - a.narSize)
      .map(({ url }) => join(rare.cacheDir, url));
    await rm(large); // the publisher has lost it

    const machine = await Machine.make(lab, { flags: [] });
    await machine.subscribe('mirror', mirror);
    const port = String(await freePort());
    const peer = ['--peer', `127.0.0.1:${port}`, '--peer-timeout', '1s'];
    const { process: daemon } = await machine.service([...serve, ...peer]);
    assert.equal((await daemon.event('subscription'))['missingCount'], 1);
    await holder.service([...serve, '--port', port]);
    await updated(daemon, 1);
    await assertSound(machine.store, rare.publicKey);
    assert.equal(await narBytesOf(machine.store), await narBytesOf(rare.cacheDir));
  });
});
