/** Files that updates keep and remove, beside gc, a daemon and interruptions. */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { configLocation, surroundings } from '../../src/config/locations.ts';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { collectGarbage } from '../../src/store/gc.ts';
import { storeRoots } from '../../src/subscription/room/store-roots.ts';
import { nextGeneration } from '../support/generations.ts';
import { answersHandshake, untilServed } from '../support/handshake.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, readNarInfos } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';
import { failOnWarning } from '../support/no-warnings.ts';

const BLOBS = [20_000, 5_000, 50_000];
const PATHS = BLOBS.length * 2;
const DAY_MS = 86_400_000;

describe('updates and the budget', { concurrency: 3 }, () => {
  let lab: Lab;
  let other: MadeClosure;
  let trust: readonly string[];

  before(async () => {
    lab = await Lab.open();
    other = await lab.closure([30_000], 'other');
    trust = ['--trusted-public-key', other.publicKey];
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A closure of its own for the test, its cache, and a machine that is subscribed to it by a list. */
  const subscribed = async (): Promise<{ made: MadeClosure; cache: HttpCache; machine: Machine; list: string }> => {
    const made = await lab.closure(BLOBS);
    const caches = [await startHttpCache(made.cacheDir), await startHttpCache(other.cacheDir)].map((one) =>
      lab.use(one),
    );
    const [cache] = caches;
    assert.ok(cache !== undefined);
    const machine = await Machine.make(lab, { flags: ALONE });
    const keys = [made.publicKey, other.publicKey];
    await machine.configure(
      `trusted-public-key = ${JSON.stringify(keys)}\nfrom = ${JSON.stringify(caches.map(({ url }) => url))}`,
    );
    const list = join(await lab.folder('lists'), 'lab');
    await writeFile(list, made.root);
    await machine.subscribe('lab', list);
    return { made, cache, machine, list };
  };
  const heldBy = async (machine: Machine): Promise<readonly string[]> =>
    [...(await readNarInfos(machine.store)).values()].map(({ storePath }) => storePath);
  const collect = async (machine: Machine, ...args: readonly string[]): Promise<readonly string[]> => {
    const run = await machine.run(['gc', '--max-size', '0', ...args]);
    assert.equal(run.status, 0, run.stderr);
    return heldBy(machine);
  };
  const until = async (condition: () => Promise<boolean> | boolean): Promise<void> => {
    while (!(await condition())) await sleep(10);
  };

  test('gc beside a daemon and an update keeps pinned paths and as many generations as it is told', async () => {
    const { made, cache, machine, list } = await subscribed();
    await machine.updated();
    const infoHashOf = async (path: string): Promise<string> =>
      String((await machine.run(['torrent', path, '--magnet'])).event('torrent')['infoHash']);
    assert.equal((await machine.run(['fetch', other.root, '--no-copy', ...ALONE])).status, 0);
    const gone = await infoHashOf(other.root);
    const { ready } = await machine.service(['daemon', '--share-keys', made.publicKey, ...ALONE]);

    const next = await nextGeneration(made, 2, 50_000);
    await writeFile(list, next.root);
    cache.faults = [{ match: /\.nar\.xz$/, kind: 'stall', afterBytes: 100 }];
    cache.resetCounts();
    const updating = machine.startUpdate();
    await until(() => cache.requests.some(({ url }) => url.startsWith('/nar/')));
    const kept = await collect(machine);
    assert.deepEqual([kept.includes(made.root), kept.includes(other.root)], [true, false]);
    assert.equal(await answersHandshake(Number(ready['port']), gone), false);
    cache.faults = [];
    await updating.stop('SIGINT');
    const done = await machine.updated();
    assert.deepEqual([done['outcome'], done['generation'], done['nars']], ['complete', 2, 2]);
    await untilServed(Number(ready['port']), await infoHashOf(next.root));

    assert.equal((await machine.run(['fetch', other.root, '--no-copy', ...ALONE])).status, 0);
    assert.equal((await machine.run(['pin', other.root])).status, 0);
    assert.equal((await collect(machine)).length, PATHS + 2 + 2);
    const last = await collect(machine, '--keep-generations', '0');
    assert.deepEqual([last.length, last.includes(next.root), last.includes(other.root)], [PATHS + 2, true, true]);
    // A missing generation that would now be kept is no reason to keep everything.
    assert.equal((await machine.run(['unpin', other.root])).status, 0);
    assert.equal((await collect(machine)).length, PATHS);
  });

  test('unsubscribing frees paths that nothing else keeps; a partial update, or one without a config file, frees nothing', async () => {
    const { made, machine } = await subscribed();
    await machine.subscribe('other', other.root);
    const both = await machine.update();
    assert.equal(both.status, 0, both.stderr);
    assert.equal((await machine.run(['unsubscribe', 'other'])).status, 0);
    const forgotten = (events: readonly { event: string }[]): boolean =>
      events.some(({ event }) => event === 'forgotten');

    assert.equal(forgotten((await machine.update(['lab'])).events), false);
    // Nobody names a config file, and the default one is not there.
    const nothing = { NARSWARM_CONFIG: '', XDG_CONFIG_HOME: await lab.folder('empty') };
    const lost = await machine.run(['update', '--store', machine.store, '--no-upstream', ...trust, ...ALONE], nothing);
    assert.equal(lost.status, 0, lost.stderr);
    assert.equal(forgotten(lost.events), false);
    const lostGc = await machine.run(['gc', '--store', machine.store, '--max-size', '0'], nothing);
    assert.deepEqual([lostGc.status, forgotten(lostGc.events)], [0, false]);
    assert.equal((await heldBy(machine)).length, PATHS + 2);
    await rm(machine.configFile);
    assertFailure(await machine.update(), 2, 'USAGE', /there is no \S+, the config file of NARSWARM_CONFIG/);

    await writeFile(machine.configFile, `store = ${JSON.stringify(machine.store)}\n`);
    await machine.subscribe('lab', made.root);
    await machine.configure('');
    const offline = ['--no-upstream', '--trusted-public-key', made.publicKey];
    const run = await machine.update(offline);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('forgotten')['name'], 'other');
    assert.deepEqual([(await collect(machine)).length, run.event('subscription')['nars']], [PATHS, 0]);
  });

  test('gc with a budget removes unsubscribed paths, except pinned ones and those of another config file', async () => {
    const { made, machine } = await subscribed();
    await machine.subscribe('other', other.root);
    assert.equal((await machine.update()).status, 0);
    const elsewhere = { NARSWARM_CONFIG: join(await lab.folder('elsewhere'), 'config.toml') };
    await writeFile(elsewhere.NARSWARM_CONFIG, `store = ${JSON.stringify(machine.store)}\n`);
    assert.equal((await machine.run(['gc', '--max-size', '0'], elsewhere)).status, 0);
    assert.equal((await heldBy(machine)).length, PATHS + 2);

    assert.equal((await machine.run(['unsubscribe', 'other'])).status, 0);
    const dry = await machine.run(['gc', '--max-size', '0', '--dry-run']);
    assert.deepEqual(
      [
        dry.events.filter(({ event }) => event === 'remove').length,
        dry.events.some((one) => one.event === 'forgotten'),
      ],
      [2, false],
    );
    assert.ok(Number((await machine.run(['gc'])).event('done')['reclaimableBytes']) > 0);
    assert.equal((await heldBy(machine)).length, PATHS + 2, 'without a budget nothing goes');
    const run = await machine.run(['gc', '--max-size', '1T']);
    assert.deepEqual([run.status, run.event('forgotten')['name']], [0, 'other']);
    assert.deepEqual(
      [(await heldBy(machine)).length, (await readdir(join(machine.store, 'nar'))).length],
      [PATHS, PATHS],
    );
    await machine.subscribe('other', other.root);
    assert.equal((await machine.status('other'))['health'], 'never', 'nothing is known of what went');

    assert.equal((await machine.run(['pin', made.root])).status, 0);
    assert.equal((await machine.run(['unsubscribe', 'lab'])).status, 0);
    // a lost config file does not tell the subscriptions
    const home = await lab.folder('home');
    const atHome = { NARSWARM_CONFIG: '', XDG_CONFIG_HOME: home, NARSWARM_STORE: machine.store };
    const { path } = configLocation(undefined, { ...surroundings(), env: atHome });
    const stateFile = join(machine.store, 'narswarm/subscriptions/lab.json');
    const state = JSON.parse(await readFile(stateFile, 'utf8')) as object;
    await writeFile(stateFile, JSON.stringify({ ...state, config: path }));
    assert.equal((await machine.run(['unpin', made.root])).status, 0);
    assert.equal((await machine.run(['gc', '--max-size', '0'], atHome)).status, 0);
    assert.equal((await heldBy(machine)).length, PATHS);
  });

  test('a closure that takes several interrupted nights is fetched once, and never collected meanwhile', async () => {
    const { made, cache, machine } = await subscribed();
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    // All packages refer to it: as long as it is missing they have no narinfo, though their NARs are there.
    const lowest = infos.find(({ storePath }) => storePath.endsWith('-lab-0'));
    assert.ok(lowest !== undefined);
    cache.faults = [{ match: new RegExp(lowest.url), kind: 'stall', afterBytes: 10 }];
    const nars = async (): Promise<number> => (await readdir(join(machine.store, 'nar')).catch(() => [])).length;
    const store = await FileStore.open(machine.store, { create: true });
    for (let night = 1; night <= 3; night++) {
      cache.resetCounts();
      const updating = machine.startUpdate();
      await until(
        async () => cache.requests.some(({ url }) => url === `/${lowest.url}`) && (await nars()) === PATHS - 1,
      );
      const run = await updating.stop('SIGTERM');
      assert.deepEqual([run.status, run.event('subscription')['outcome']], [130, 'interrupted']);
      const status = await machine.status('lab');
      assert.deepEqual(
        [status['health'], (status['lastRun'] as { outcome: string }).outcome],
        ['incomplete', 'interrupted'],
      );
      await collectGarbage({
        store,
        roots: () => storeRoots(store, () => 0),
        maxBytes: 0,
        dryRun: false,
        now: new Date(Date.now() + 6 * DAY_MS),
        signal: new AbortController().signal,
        onWarning: failOnWarning,
      });
      assert.equal(await nars(), PATHS - 1, `night ${night}`);
    }
    cache.faults = [];
    const done = await machine.updated();
    assert.deepEqual([done['outcome'], done['nars']], ['complete', 1]);
    await assertSound(machine.store, made.publicKey);
  });
});
