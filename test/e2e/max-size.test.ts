/** A store with a `max-size` while a subscription grows: other paths give way, and the subscription never does. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { nextGeneration } from '../support/generations.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialSession } from '../../src/store/session.ts';
import { Turn } from '../../src/store/turn.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, narBytesOf, type Run, readNarInfos, type RunningPublisher } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';

const BLOB_BYTES = 100_000;
const BLOBS = 6;
/** Such a NAR is written to its partial file at once. */
const LARGE_BYTES = 1_200_000;
/** Much less than one sixteenth of all NARs. */
const LITTLE_BYTES = 10_000;
/** Blobs that differ in the second generation. */
const NEWS = 4;

suite('a subscription that grows in a store with max-size', { concurrency: 2 }, () => {
  let lab: Lab;
  /** The contents of a mirrored hash map. */
  let shared: MadeClosure;
  let publisher: RunningPublisher;

  before(async () => {
    lab = await Lab.open();
    shared = await lab.closure(Array.from({ length: BLOBS }, () => BLOB_BYTES));
    publisher = await lab.publisher(shared, ['--key', lab.path('publisher.key'), ...ALONE]);
  });
  after(async () => {
    await publisher.process.stop();
    await lab[Symbol.asyncDispose]();
  });

  /** A machine with a subscription to a list, and the cache of its paths. */
  const scene = async (): Promise<{ own: MadeClosure; cache: HttpCache; machine: Machine; list: string }> => {
    const own = await lab.closure(Array.from({ length: BLOBS }, () => BLOB_BYTES));
    const cache = lab.use(await startHttpCache(own.cacheDir));
    const machine = await Machine.make(lab, { flags: ALONE });
    const keys = [own.publicKey, shared.publicKey];
    const [from, trust] = [[cache.url, `file://${shared.cacheDir}`], keys].map((one) => JSON.stringify(one));
    await machine.configure(`trusted-public-key = ${trust}\nfrom = ${from}`);
    const list = join(await lab.folder('lists'), 'own');
    await writeFile(list, own.root);
    await machine.subscribe('own', list);
    return { own, cache, machine, list };
  };
  /** Lists a second generation, most of which is new. */
  const grow = async (own: MadeClosure, list: string): Promise<MadeClosure> => {
    for (let blob = 1; blob < NEWS; blob++)
      await writeFile(join(dirname(own.cacheDir), 'blobs', `blob-${blob}`), randomBytes(BLOB_BYTES));
    const next = await nextGeneration(own, 0, BLOB_BYTES);
    await writeFile(list, next.root);
    return next;
  };

  test('paths that nothing keeps make room', async () => {
    const { own, machine, list } = await scene();
    await machine.updated();
    const fetched = await machine.run(['fetch', shared.root, '--no-copy', ...ALONE]);
    assert.equal(fetched.status, 0, fetched.stderr);
    const budgetBytes = await narBytesOf(machine.store);
    const next = await grow(own, list);
    const done = await machine.updated('--max-size', `${budgetBytes}B`);
    assert.deepEqual([done['outcome'], done['generation']], ['complete', 2]);
    assert.ok((await narBytesOf(machine.store)) <= budgetBytes);
    const { narInfos } = await assertSound(machine.store, [next.publicKey, shared.publicKey]);
    assert.ok(holdsName(narInfos, next.root) && holdsName(narInfos, own.root));
    assert.ok(!holdsName(narInfos, shared.root));
  });

  test('a mirror gives paths up while others arrive, says so, and takes them back when there is space', async () => {
    const { own, machine, list } = await scene();
    await machine.subscribe('mirror', publisher.mirror);
    assert.equal((await machine.update()).status, 0);
    const whole = new Set(await readdir(join(machine.store, 'nar')));
    const budgetBytes = await narBytesOf(machine.store);
    const budget = ['--max-size', `${budgetBytes}B`];
    await grow(own, list);
    const run = await machine.update(['own', ...budget]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(orderIn(run)[0], 'yielded', 'no room was made before everything had arrived');
    assert.equal(run.event('yielded')['name'], 'mirror');
    assert.ok(!run.events.some(({ event }) => event === 'warning'), run.stdout);
    assert.ok((await narBytesOf(machine.store)) <= budgetBytes);
    const status = await machine.status('mirror');
    assert.equal(status['health'], 'complete');
    assert.match(String(status['notes']), /does not fit into --max-size.*; without \d+ paths \(\d+/);
    const { narInfos } = await assertSound(machine.store, [own.publicKey, shared.publicKey]);
    assert.ok(narInfos.length > 0);

    const gc = await machine.run(['gc', ...budget]);
    assert.deepEqual([gc.status, gc.event('done')['isOver']], [0, false], gc.stderr);
    const again = await machine.update(budget);
    assert.equal(again.status, 0, again.stderr);
    assert.deepEqual(
      again.events.filter(({ event }) => event === 'subscription').map(({ name, outcome }) => [name, outcome]),
      [
        ['own', 'complete'],
        ['mirror', 'complete'],
      ],
    );
    assert.ok((await narBytesOf(machine.store)) <= budgetBytes);
    assert.equal((await machine.update(['--max-size', '1G'])).status, 0);
    assert.ok(holdsAll(new Set(await readdir(join(machine.store, 'nar'))), whole));
    assert.deepEqual((await machine.status('mirror'))['notes'], []);
  });

  test('gc takes from mirrors last, unless an update is running, and a dry run shows it', async () => {
    const { own, machine } = await scene();
    await machine.subscribe('mirror', publisher.mirror);
    assert.equal((await machine.update()).status, 0);
    const stray = await lab.closure([BLOB_BYTES]);
    const trust = ['--trusted-public-key', stray.publicKey, '--from', `file://${stray.cacheDir}`];
    assert.equal((await machine.run(['fetch', stray.root, '--no-copy', ...trust, ...ALONE])).status, 0);
    const ownBytes = await narBytesOf(own.cacheDir);
    const budgetBytes = ownBytes + Math.round((await narBytesOf(shared.cacheDir)) / 2);
    const gc = (...flags: string[]): Promise<Run> => machine.run(['gc', '--max-size', `${budgetBytes}B`, ...flags]);
    const removedBy = ({ events }: Run): string[] =>
      events.filter(({ event }) => event === 'remove').map(({ path }) => String(path));

    const store = await FileStore.open(machine.store, { create: false });
    const dry = await gc('--dry-run');
    const planned = removedBy(dry);
    assert.deepEqual(
      [dry.event('done')['isOver'], dry.event('yielded')['name'], dry.event('yielded')['dryRun']],
      [false, 'mirror', true],
    );
    assert.deepEqual((await machine.status('mirror'))['notes'], [], 'a dry run changes nothing');
    const updating = await Turn.take(store, 'updating');
    assert.ok(updating instanceof Turn);
    const beside = await gc();
    assert.deepEqual([beside.status, beside.event('done')['isOver']], [0, true]);
    assert.match(String(beside.event('warning')['message']), /an update is running, so mirrors gave nothing up/);
    const strays = [...(await readNarInfos(stray.cacheDir)).values()].map(({ storePath }) => storePath as string);
    assert.deepEqual(removedBy(beside).toSorted(), strays.toSorted(), 'what nothing keeps goes first');
    await updating[Symbol.asyncDispose]();

    const run = await gc();
    assert.deepEqual([run.status, run.event('done')['isOver'], run.event('yielded')['name']], [0, false, 'mirror']);
    assert.deepEqual([...removedBy(beside), ...removedBy(run)].toSorted(), planned.toSorted());
    assert.ok((await narBytesOf(machine.store)) <= budgetBytes);
    const status = await machine.status('mirror');
    assert.equal(status['health'], 'complete');
    assert.match(String(status['notes']), /does not fit into --max-size/);
    const { narInfos } = await assertSound(machine.store, [own.publicKey, shared.publicKey]);
    assert.ok(holdsName(narInfos, own.root));
  });

  test('a mirror gives paths up at the end of a run that brought little', async () => {
    const { own, machine, list } = await scene();
    await machine.subscribe('mirror', publisher.mirror);
    assert.equal((await machine.update()).status, 0);
    const budgetBytes = await narBytesOf(machine.store);
    const next = await nextGeneration(own, 0, LITTLE_BYTES);
    await writeFile(list, next.root);
    const run = await machine.update(['own', '--max-size', `${budgetBytes}B`]);
    assert.deepEqual([run.status, orderIn(run)], [0, ['subscription', 'yielded']], run.stderr);
    assert.ok((await narBytesOf(machine.store)) <= budgetBytes);
    const { narInfos } = await assertSound(machine.store, [next.publicKey, shared.publicKey]);
    assert.ok(holdsName(narInfos, next.root) && holdsName(narInfos, own.root));
    assert.equal((await machine.status('mirror'))['health'], 'complete');
  });

  test('subscriptions that do not fit are complete, lose nothing, and the update names the way out', async () => {
    const { own, machine, list } = await scene();
    await machine.updated();
    assert.equal((await machine.run(['pin', own.root])).status, 0);
    const budgetBytes = await narBytesOf(machine.store);
    const next = await grow(own, list);
    const run = await machine.update(['--max-size', `${budgetBytes}B`]);
    assert.deepEqual([run.status, run.event('subscription')['outcome']], [0, 'complete'], run.stderr);
    assert.match(String(run.event('warning')['message']), /^the kept paths take .*, more than --max-size .*: raise it/);
    const { narInfos } = await assertSound(machine.store, [next.publicKey, shared.publicKey]);
    assert.ok(holdsName(narInfos, next.root) && holdsName(narInfos, own.root));
  });

  test('partial files that no subscription wants are removed, as soon as all of them could be planned', async () => {
    const own = await lab.closure([LARGE_BYTES]);
    const cache = lab.use(await startHttpCache(own.cacheDir));
    const machine = await Machine.make(lab, { flags: ALONE });
    await machine.configure(`trusted-public-key = "${own.publicKey}"\nfrom = "${cache.url}"`);
    const list = join(await lab.folder('lists'), 'own');
    await machine.subscribe('own', list);
    const largest = [...(await readNarInfos(own.cacheDir)).values()].toSorted((a, b) => b.narSize - a.narSize)[0]!;
    const nar = await readFile(join(own.cacheDir, largest.url));
    const stray = 'f'.repeat(52);
    const partials = await leavePartials(
      machine,
      new Map([
        [largest.fileHash!, nar],
        [stray, nar],
      ]),
    );
    const both = [largest.fileHash!, stray].toSorted();
    const outcome = async (): Promise<unknown> =>
      (await machine.update(['--max-size', '0'])).event('subscription')['outcome'];
    assert.equal(await outcome(), 'failed', 'there is no list yet');
    assert.deepEqual(await partials(), both);
    await writeFile(list, own.root);
    cache.faults = [{ match: new RegExp(storeHashOf(largest.storePath)), kind: 'status', status: 500 }];
    assert.equal(await outcome(), 'incomplete', 'a narinfo is not there yet');
    assert.deepEqual(await partials(), both);
    cache.faults = [{ match: /\.nar\./, kind: 'status', status: 404 }];
    assert.equal(await outcome(), 'incomplete');
    assert.deepEqual(await partials(), [largest.fileHash!]);
    cache.faults = [];
    cache.resetCounts();
    assert.equal(await outcome(), 'complete');
    assert.ok(cache.bytesSent() < nar.length, 'a NAR was fetched again');
    assert.deepEqual(await partials(), []);
  });

  test('a mirror gives nothing up for paths that do not come', async () => {
    const { own, cache, machine, list } = await scene();
    await machine.subscribe('mirror', publisher.mirror);
    assert.equal((await machine.update()).status, 0);
    const earlier = new Set(await readdir(join(machine.store, 'nar')));
    const budgetBytes = await narBytesOf(machine.store);
    await grow(own, list);
    cache.faults = [{ match: /\.nar\.xz$/, kind: 'status', status: 404 }];
    const run = await machine.update(['own', '--max-size', `${budgetBytes}B`]);
    assert.equal(run.event('subscription')['outcome'], 'incomplete', run.stdout);
    assert.ok(holdsAll(new Set(await readdir(join(machine.store, 'nar'))), earlier));
  });
});

/** Writes the first half of a NAR, as a run that ended two days ago. Returns the names of all such files. */
async function leavePartials(machine: Machine, files: ReadonlyMap<string, Buffer>): Promise<() => Promise<string[]>> {
  const store = await FileStore.open(machine.store, { create: true });
  await using session = await PartialSession.open(store);
  const at = Date.now() / 1000 - 2 * 86_400;
  for (const [name, nar] of files) {
    await writeFile(session.path(name), nar.subarray(0, nar.length / 2));
    await utimes(session.path(name), at, at);
  }
  const parent = dirname(session.dir);
  return async () => {
    const owners = await readdir(parent);
    return (await Promise.all(owners.map((owner) => readdir(join(parent, owner))))).flat().toSorted();
  };
}

/** Returns the events that tell when room was made. */
function orderIn({ events }: Run): unknown[] {
  return events.map(({ event }) => event).filter((event) => event === 'yielded' || event === 'subscription');
}

function holdsAll(names: ReadonlySet<string>, others: ReadonlySet<string>): boolean {
  return [...others].every((name) => names.has(name));
}

function holdsName(narInfos: readonly string[], path: string): boolean {
  return narInfos.some((name) => path.endsWith(name));
}
