/** The nightly update: subscriptions of a publisher, generation by generation. */
import assert from 'node:assert/strict';
import { writeFile, readdir } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { nextGeneration } from '../support/generations.ts';
import { assertSound, Lab, narBytesOf, requisites, type CliEvent, type RunningPublisher } from '../support/lab.ts';

const BLOBS = [...Array.from({ length: 19 }, () => 20_000), 300_000];
const PATHS = BLOBS.length * 2;

describe('a publisher’s named root, followed by a machine without any upstream', () => {
  let lab: Lab;
  let made: MadeClosure;
  let publisher: RunningPublisher;
  let network: readonly string[];
  let store: string;
  let target: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure(BLOBS);
    const { bootstrap } = await lab.dht(3);
    const flags = bootstrap.flatMap(({ host, port }) => ['--dht-bootstrap', `${host}:${port}`]);
    network = ['--listen', '127.0.0.1', '--no-lan', ...flags];
    store = await lab.folder('store');
    target = `local?root=${await lab.folder('target')}`;
  });
  after(() => lab[Symbol.asyncDispose]());

  const publish = async (key: string): Promise<void> => {
    publisher = await lab.publisher(made, ['--key', key, ...network]);
  };
  const update = (...args: readonly string[]) =>
    lab.run(['update', '--store', store, '--no-upstream', '--trusted-public-key', made.publicKey, ...network, ...args]);
  const subscription = (events: readonly CliEvent[]): CliEvent => {
    const found = events.find(({ event }) => event === 'subscription');
    assert.ok(found !== undefined);
    return found;
  };

  test('the first generation comes whole; of the second, only the difference comes', async () => {
    const key = lab.path('publisher.key');
    await publish(key);
    const source = `${publisher.address}#lab`;
    const subscribed = await lab.run(['subscribe', 'desktop', source, '--import', '--to', target]);
    assert.equal(subscribed.status, 0, subscribed.stderr);

    const dry = await update('--dry-run');
    assert.equal(dry.status, 0, dry.stderr);
    assert.equal(subscription(dry.events)['nars'], PATHS);
    assert.deepEqual(await readdir(store).catch(() => []), []);

    const first = await update();
    assert.equal(first.status, 0, first.stderr);
    const done = subscription(first.events);
    assert.deepEqual([done['outcome'], done['generation'], done['nars']], ['complete', 1, PATHS]);
    assert.deepEqual(done['bytes'], { store: 0, peers: await narBytesOf(made.cacheDir), upstream: 0 });
    assert.equal(requisites(target, made.root).length, PATHS);

    const again = subscription((await update()).events);
    assert.deepEqual([again['outcome'], again['generation'], again['nars']], ['complete', 1, 0]);

    await publisher.process.stop();
    made = await nextGeneration(made, BLOBS.length - 1, 300_000);
    await publish(key);
    const second = await update();
    assert.equal(second.status, 0, second.stderr);
    const news = subscription(second.events);
    assert.deepEqual([news['outcome'], news['generation'], news['nars']], ['complete', 2, 2]);
    assert.equal(requisites(target, made.root).length, PATHS);

    const status = await lab.run(['status', '--store', store]);
    const told = status.event('status');
    assert.deepEqual([told['health'], told['generation'], told['missing']], ['complete', 2, []]);
    assert.equal(status.status, 0);

    // After the third generation, paths that only the first one needed are removed, even without a budget.
    const held = await assertSound(store, made.publicKey);
    assert.equal(held.nars.length, PATHS + 2);
    await publisher.process.stop();
    made = await nextGeneration(made, BLOBS.length - 1, 300_000);
    await publish(key);
    const third = await update();
    assert.equal(third.status, 0, third.stderr);
    assert.deepEqual((third.event('collected')['removed'] as { nars: number }).nars, 2);
    assert.equal((await assertSound(store, made.publicKey)).nars.length, PATHS + 2);

    // After unsubscribing, exactly its paths are removed.
    await writeFile(lab.configFile, '');
    const last = await update();
    assert.equal(last.status, 0, last.stderr);
    assert.deepEqual((await assertSound(store, made.publicKey)).nars, []);
  });
});
