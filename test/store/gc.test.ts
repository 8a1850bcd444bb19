/** Tests each rule of gc on a store made for it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { access, mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { pendingEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { claim } from '../../src/store/claims.ts';
import { Turn } from '../../src/store/turn.ts';
import type { Root } from '../../src/store/collect/keep.ts';
import type { Yield } from '../../src/store/collect/yields.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { collectGarbage, type GcOptions, type GcResult } from '../../src/store/gc.ts';
import { addPin, listPins, removePin } from '../../src/store/pins.ts';
import { writeReplicas } from '../../src/store/replicas.ts';
import { PartialSession } from '../../src/store/session.ts';
import { emptyStore } from './store-fixture.ts';
import { addPath, pathNamed, serveAt } from './synthetic-store.ts';
import type { Warning } from '../../src/warning.ts';

const VICTIM = fileURLToPath(new URL('gc-victim.ts', import.meta.url));
const DAY_MS = 86_400_000;
const PARTIAL_BYTES = 4096;

interface Collected extends GcResult {
  readonly order: readonly string[];
  readonly warnings: readonly Warning[];
}

/** @param keep names whose closures are roots */
async function collect(
  store: FileStore,
  keep: readonly string[],
  options: Partial<GcOptions> = {},
): Promise<Collected> {
  const order: string[] = [];
  const warnings: Warning[] = [];
  const result = await collectGarbage({
    store,
    roots: () =>
      Promise.resolve(keep.map((name) => ({ storePath: pathNamed(name), keeper: undefined, isWhole: true }))),
    maxBytes: 0,
    dryRun: false,
    now: new Date(),
    signal: new AbortController().signal,
    onWarning: (warning) => warnings.push(warning),
    onRemoved: ({ storePath }) => order.push(storePath.slice(44)),
    ...options,
  });
  return { ...result, order, warnings };
}

/** Names of the paths that have a narinfo, and the number of NARs. */
async function held(store: FileStore): Promise<[names: string[], nars: number]> {
  const names: string[] = [];
  for (const hash of await store.listStoreHashes()) names.push((await store.readNarInfo(hash))!.storePath.slice(44));
  return [names.toSorted(), (await readdir(join(store.dir, 'nar'))).length];
}

/** `app` needs `lib`, `old` needs `lib` and `data`. */
async function sample(t: TestContext): Promise<FileStore> {
  const store = await emptyStore(t);
  await addPath(store, 'lib');
  await addPath(store, 'data');
  await addPath(store, 'app', { refersTo: ['lib', 'app'] });
  await addPath(store, 'old', { refersTo: ['lib', 'data'] });
  return store;
}

suite('gc', () => {
  test('keeps only the closures of the roots, with a budget of 0', async (t) => {
    const store = await sample(t);
    const result = await collect(store, ['app']);
    assert.deepEqual(await held(store), [['app', 'lib'], 2]);
    assert.deepEqual(result.order, ['old', 'data'], 'referrers go before what they refer to');
    assert.deepEqual(result.removed, { paths: 2, nars: 2, bytes: 2000 });
    assert.deepEqual(result.kept, { paths: 2, nars: 2, bytes: 2000 });
  });

  test('a yielding keeper loses paths after all others, and its remaining roots are recorded before', async (t) => {
    const store = await emptyStore(t);
    const now = new Date();
    const ago = (hours: number): number => now.getTime() - hours * 3_600_000;
    const sole = await addPath(store, 'sole', { atMs: ago(9) });
    await addPath(store, 'low', { atMs: ago(8) });
    await addPath(store, 'top', { atMs: ago(8), refersTo: ['low', 'lib'] });
    await addPath(store, 'lib', { atMs: ago(7) });
    await addPath(store, 'app', { atMs: ago(7), refersTo: ['lib'] });
    await addPath(store, 'loose', { atMs: ago(1) });
    await writeReplicas(store, { at: now.toISOString(), machines: 1, roots: [], sole: [basename(sole.url)] });
    let mirrored = ['top', 'sole'];
    const rootsOf = (keeper: string, names: readonly string[]): Root[] =>
      names.map((name) => ({ storePath: pathNamed(name), keeper, isWhole: true }));
    const removed = async (maxBytes: number): Promise<unknown> => {
      const yields: Yield[] = [];
      const order: string[] = [];
      const yielding = {
        keepers: new Set(['mirror']),
        record: async (given: readonly Yield[]) => {
          assert.deepEqual(order, []);
          yields.push(...given);
        },
      };
      await collect(store, [], {
        roots: async () => [...rootsOf('mirror', mirrored), ...rootsOf('own', ['app'])],
        yielding,
        maxBytes,
        now,
        onRemoved: ({ storePath }) => order.push(storePath.slice(44)),
      });
      for (const { roots } of yields) mirrored = roots.map((path) => path.slice(44)).toSorted();
      return [order, yields.map(({ keeper, paths, bytes }) => ({ keeper, paths, bytes }))];
    };
    assert.deepEqual(await removed(6000), [[], []]);
    assert.deepEqual(await removed(4000), [['loose', 'top'], [{ keeper: 'mirror', paths: 1, bytes: 1000 }]]);
    assert.deepEqual(mirrored, ['lib', 'low', 'sole']);
    assert.deepEqual(await removed(0), [['low', 'sole'], [{ keeper: 'mirror', paths: 2, bytes: 2000 }]]);
    assert.deepEqual([mirrored, (await held(store))[0]], [['lib'], ['app', 'lib']]);
  });

  test('forgets a restored damaged file along with its path, and an unneeded damaged narinfo after a week', async (t) => {
    const store = await sample(t);
    const folder = join(store.stateDir, 'quarantine');
    await mkdir(folder);
    const fileOf = (name: string): string => `${storeHashOf(pathNamed(name))}.narinfo`;
    for (const name of ['old', 'lib', 'never']) await writeFile(join(folder, fileOf(name)), 'junk');
    await collect(store, ['app'], { dryRun: true });
    assert.equal((await readdir(folder)).length, 3);
    await collect(store, ['app']);
    const left = [fileOf('lib'), fileOf('never')].toSorted();
    assert.deepEqual((await readdir(folder)).toSorted(), left);
    await collect(store, ['app'], { now: new Date(Date.now() + 8 * DAY_MS) });
    assert.deepEqual(await readdir(folder), [fileOf('lib')]);
  });

  test('without a budget, removes no complete path, and reports the reclaimable bytes', async (t) => {
    const store = await sample(t);
    const result = await collect(store, ['app'], { maxBytes: undefined });
    assert.deepEqual(result.order, []);
    assert.equal(result.reclaimableBytes, 2000);
    assert.equal((await held(store))[0].length, 4);
  });

  test('removes forgotten paths without a budget, unless something else needs them', async (t) => {
    const store = await sample(t);
    const { storePath } = await addPath(store, 'other', { refersTo: ['data'] });
    const other = storeHashOf(storePath);
    const forgotten = [storeHashOf(pathNamed('old')), storeHashOf(pathNamed('never-there'))];
    const result = await collect(store, ['app'], { maxBytes: undefined, forgotten });
    assert.deepEqual(result.order, ['old']); // app needs lib, and `other`, which is not forgotten, needs data
    const more = await collect(store, ['app'], { maxBytes: undefined, forgotten: [...forgotten, other] });
    assert.deepEqual(more.order, ['other', 'data']);
    assert.deepEqual(await held(store), [['app', 'lib'], 2]);
  });

  test('with forgotten paths and a budget, frees as much as the budget requires', async (t) => {
    const store = await sample(t);
    await addPath(store, 'spare');
    const forgotten = [storeHashOf(pathNamed('old'))];
    const result = await collect(store, ['app'], { maxBytes: 3000, forgotten });
    assert.deepEqual(result.order, ['old', 'data']);
    assert.deepEqual((await collect(store, ['app'], { maxBytes: 2000, forgotten })).order, ['spare']);
  });

  test('a dry run lists the paths to remove, and removes nothing', async (t) => {
    const store = await sample(t);
    const result = await collect(store, ['app'], { dryRun: true });
    assert.deepEqual(result.order, ['old', 'data']);
    assert.equal(result.removed.bytes, 2000);
    assert.equal((await held(store))[0].length, 4);
    await assert.rejects(access(join(store.stateDir, 'collecting')), { code: 'ENOENT' });
  });

  test('keeps references of a remaining path, even if they were served long ago', async (t) => {
    const store = await emptyStore(t);
    const now = Date.now();
    const atMs = now - 100 * DAY_MS;
    await serveAt(store, await addPath(store, 'lib', { atMs }), now - 90 * DAY_MS);
    await serveAt(store, await addPath(store, 'app', { atMs, refersTo: ['lib'] }), now - DAY_MS);
    await serveAt(store, await addPath(store, 'other', { atMs }), now - 2 * DAY_MS);
    const result = await collect(store, [], { maxBytes: 2000 });
    assert.deepEqual(result.order, ['other']);
  });

  test('removes least recently served paths first, and never served ones by age, down to the budget', async (t) => {
    const store = await emptyStore(t);
    const now = Date.now();
    for (const [name, days] of [
      ['b', 3],
      ['a', 4],
      ['d', 1],
      ['c', 2],
    ] as const) {
      const atMs = now - 100 * DAY_MS;
      await serveAt(store, await addPath(store, name, { atMs }), now - days * DAY_MS);
    }
    await addPath(store, 'never', { atMs: now - 2.5 * DAY_MS });
    assert.deepEqual((await collect(store, [], { maxBytes: 1500 })).order, ['a', 'b', 'never', 'c']);
    assert.deepEqual(await held(store), [['d'], 1]);
    assert.deepEqual((await collect(store, [], { maxBytes: 1000 })).order, []);
  });

  test('removes NARs without a copy at another machine last, if the count is of today and somebody was asked', async (t) => {
    for (const [machines, agoMs, order] of [
      [2, DAY_MS / 2, ['b', 'c', 'a']],
      [0, DAY_MS / 2, ['a', 'b', 'c']],
      [2, 2 * DAY_MS, ['a', 'b', 'c']],
    ] as const) {
      const store = await emptyStore(t);
      const now = Date.now();
      const { url } = await addPath(store, 'a', { atMs: now - 4 * DAY_MS });
      await addPath(store, 'b', { atMs: now - 3 * DAY_MS });
      await addPath(store, 'c', { atMs: now - 2 * DAY_MS });
      const at = new Date(now - agoMs).toISOString();
      await writeReplicas(store, { at, machines, roots: [], sole: [basename(url)] });
      assert.deepEqual((await collect(store, [])).order, order);
    }
  });

  test('keeps what is forgotten and on no other machine, as long as the budget has room, and says so', async (t) => {
    for (const [maxBytes, order, sole] of [
      [undefined, ['b', 'a'], { removed: 1, kept: 0 }],
      [1000, ['b'], { removed: 0, kept: 1 }],
      [0, ['b', 'a'], { removed: 1, kept: 0 }],
    ] as const) {
      const store = await emptyStore(t);
      const { url } = await addPath(store, 'a');
      await addPath(store, 'b');
      const at = new Date().toISOString();
      await writeReplicas(store, { at, machines: 1, roots: [], sole: [basename(url)] });
      const forgotten = ['a', 'b'].map((name) => storeHashOf(pathNamed(name)));
      const result = await collect(store, [], { maxBytes, forgotten });
      assert.deepEqual([result.order, result.sole], [order, sole]);
    }
  });

  test('keeps paths served within ten minutes, with their closures', async (t) => {
    const store = await emptyStore(t);
    await addPath(store, 'lib');
    await serveAt(store, await addPath(store, 'app', { refersTo: ['lib'] }), Date.now() - 9 * 60_000);
    await serveAt(store, await addPath(store, 'done'), Date.now() - 11 * 60_000);
    assert.deepEqual((await collect(store, [])).order, ['done']);
  });

  test('removes a shared NAR with its last path', async (t) => {
    const store = await emptyStore(t);
    await addPath(store, 'one', { contents: 'same' });
    await addPath(store, 'two', { contents: 'same' });
    assert.deepEqual((await collect(store, ['two'])).removed, { paths: 1, nars: 0, bytes: 0 });
    assert.deepEqual(await held(store), [['two'], 1]);
    assert.deepEqual((await collect(store, [])).removed, { paths: 1, nars: 1, bytes: 1000 });
    assert.deepEqual(await held(store), [[], 0]);
  });

  test('removes nothing if a kept narinfo is unreadable or refers to a missing one', async (t) => {
    const damaged = await sample(t);
    await writeFile(damaged.narInfoPath(storeHashOf(pathNamed('lib'))), 'hello');
    const first = await collect(damaged, ['app']);
    assert.deepEqual(first.order, []);
    assert.partialDeepStrictEqual(first.warnings, [
      { kind: 'nothing-evicted', obstacle: { kind: 'unreadable-narinfo' } },
    ]);

    const lacking = await sample(t);
    await addPath(lacking, 'broken', { refersTo: ['nowhere'] });
    assert.partialDeepStrictEqual((await collect(lacking, ['broken'])).warnings, [
      { kind: 'nothing-evicted', obstacle: { kind: 'lost-reference', storeHash: storeHashOf(pathNamed('broken')) } },
    ]);
    assert.equal((await held(lacking))[0].length, 5);
    assert.deepEqual((await collect(lacking, ['absent'])).warnings, [
      { kind: 'nothing-evicted', obstacle: { kind: 'lost-root', path: pathNamed('absent'), keeper: undefined } },
    ]);
    assert.equal((await held(lacking))[0].length, 5);
  });

  test('a root whose closure is still arriving does not prevent collection', async (t) => {
    const store = await sample(t);
    const root = { storePath: pathNamed('coming'), keeper: 'laptop', isWhole: false };
    const result = await collect(store, [], { roots: () => Promise.resolve([root]) });
    assert.equal(result.order.length, 4);
  });

  test('removes paths without a NAR, which the target held, like any other', async (t) => {
    const store = await emptyStore(t);
    await addPath(store, 'valid', { hasNar: false });
    await addPath(store, 'app', { refersTo: ['valid'] });
    const result = await collect(store, []);
    assert.deepEqual([result.order, result.removed.nars], [['app', 'valid'], 1]);
  });

  test('keeps roots that exceed the budget', async (t) => {
    const store = await sample(t);
    const result = await collect(store, ['app', 'old'], { maxBytes: 100 });
    assert.deepEqual([result.order, result.kept.bytes, result.reclaimableBytes], [[], 4000, 0]);
  });

  test('pins keep a closure until they are removed', async (t) => {
    const store = await sample(t);
    const { signal } = new AbortController();
    const pin = await addPin(store, storeHashOf(pathNamed('app')), new Date(0), signal);
    assert.deepEqual(await listPins(store), [{ storePath: pathNamed('app'), at: '1970-01-01T00:00:00.000Z' }]);
    assert.deepEqual(pin, (await listPins(store))[0]);
    await assert.rejects(addPin(store, pathNamed('nothing'), new Date(), signal), { code: 'NOT_FOUND' });
    await assert.rejects(removePin(store, pathNamed('lib')), { code: 'NOT_FOUND' });
    await removePin(store, pathNamed('app'));
    assert.deepEqual(await listPins(store), []);
    await writeFile(join(store.stateDir, 'pins', storeHashOf(pathNamed('lib'))), 'torn');
    await assert.rejects(listPins(store), { code: 'STORE_CORRUPT' });
  });

  test('removes collected paths from the catalogue, which can still be followed', async (t) => {
    const store = await sample(t);
    const catalogue = await Catalogue.open(store);
    for (const name of ['app', 'old', 'lib', 'data']) {
      const info = (await store.readNarInfo(storeHashOf(pathNamed(name))))!;
      const nar = { fileHash: info.fileHash!, sizeBytes: 1000, extension: '', mtimeMs: 1 };
      await catalogue.add([pendingEntry({ ...nar, mtimeMs: 0 }, info.storePath, 'fetch')]);
      await catalogue.add([pendingEntry(nar, info.storePath, 'publish')]);
    }
    await catalogue.refresh();
    await collect(store, ['app']);
    await catalogue.refresh();
    const paths = [...catalogue.entries()].map(({ storePath, askedBy }) => `${storePath.slice(44)} ${askedBy}`);
    assert.deepEqual(paths, ['app publish', 'lib publish']);
    const text = await readFile(join(store.stateDir, 'catalogue.jsonl'), 'utf8');
    assert.equal(text.split('\n').filter((line) => line !== '').length, 2);
  });
});

suite('gc and those who work on the store', () => {
  test('keeps paths that are claimed, then rooted, while gc begins', async (t) => {
    const store = await sample(t);
    const { signal } = new AbortController();
    const session = await PartialSession.open(store);
    await claim([], [{ storeHash: storeHashOf(pathNamed('old')) }], { store, session, signal });
    const result = await collect(store, [], {
      // An update that has ended: it wrote its state after these were read, and dropped its claims.
      roots: async () => {
        await session[Symbol.asyncDispose]();
        return [];
      },
    });
    assert.deepEqual(result.order, ['app']);
  });

  test('keeps what was claimed last: its write begins after an earlier one, however long that takes', async (t) => {
    const store = await emptyStore(t);
    await using session = await PartialSession.open(store);
    const wasThere: boolean[] = [];
    const claimant = {
      claims: session.claims,
      path: (name: string): string => {
        wasThere.push(existsSync(session.path(name)));
        return session.path(name);
      },
    };
    // so many that they are not written at once
    const hashes = Array.from({ length: 2_000 }, (_, index) => storeHashOf(pathNamed(`claimed-${index}`)));
    const { signal } = new AbortController();
    const batches = [hashes.slice(1), hashes.slice(0, 1)].map((batch) => batch.map((storeHash) => ({ storeHash })));
    await Promise.all(batches.map((batch) => claim([], batch, { store, session: claimant, signal })));
    assert.deepEqual(wasThere, [false, true]);
    const lines = await readFile(session.path('claims'), 'utf8');
    assert.equal(lines, batches.flatMap((batch) => batch.map(({ storeHash }) => `${storeHash} \n`)).join(''));
  });

  test('keeps the claims of a fetch while its session lasts, also a NAR without a narinfo', async (t) => {
    const store = await sample(t);
    const { signal } = new AbortController();
    const orphan = join(store.dir, 'nar', `${'0'.repeat(52)}.nar.xz`);
    await writeFile(orphan, 'of an earlier run');
    const now = new Date(Date.now() + 8 * DAY_MS);
    {
      await using session = await PartialSession.open(store);
      await claim([], [{ storeHash: storeHashOf(pathNamed('data')) }], { store, session, signal });
      // a session of several fetches
      await claim([], [{ storeHash: storeHashOf(pathNamed('lib')), narName: basename(orphan) }], {
        store,
        session,
        signal,
      });
      const result = await collect(store, ['app'], { now });
      assert.deepEqual([result.order, result.leftovers.files], [['old'], 0]);
      assert.deepEqual(await held(store), [['app', 'data', 'lib'], 4]);
    }
    assert.deepEqual(await readdir(join(store.stateDir, 'partial')), [], 'the claim ends with the session');
    const after = await collect(store, ['app'], { now });
    assert.deepEqual([after.order, after.leftovers.files], [['data'], 1]);
  });

  test('keeps a NAR that a fetch needs for another path, even if its own path is removed', async (t) => {
    const store = await sample(t);
    const { url } = (await store.readNarInfo(storeHashOf(pathNamed('data'))))!;
    await using session = await PartialSession.open(store);
    const claims = [{ storeHash: storeHashOf(pathNamed('new')), narName: basename(url) }];
    await claim([], claims, { store, session, signal: new AbortController().signal });
    const result = await collect(store, ['app']);
    assert.deepEqual([result.order, result.removed.nars], [['old', 'data'], 1]);
    assert.equal(await store.narSizeOf({ url, storePath: pathNamed('data') }), 1000);
  });

  test(
    'a fetch looks up the contents of the store only while no collector is running',
    { timeout: 180_000 },
    async (t) => {
      const store = await sample(t);
      const { signal } = new AbortController();
      await using session = await PartialSession.open(store);
      const happened: string[] = [];
      const collector = await Turn.take(store, 'collecting');
      assert.ok(collector instanceof Turn);
      let onWait = (): void => undefined;
      const waits = new Promise<void>((resolve) => (onWait = resolve));
      const claims = [{ storeHash: storeHashOf(pathNamed('old')) }];
      const claimed = claim([], claims, { store, session, signal, onWait }).then(() => happened.push('claimed'));
      await Promise.race([waits, claimed]);
      happened.push('collector ends');
      await collector[Symbol.asyncDispose]();
      await claimed;
      assert.deepEqual(happened, ['collector ends', 'claimed']);
    },
  );

  test('runs one collector at a time, and does not wait for a killed one', async (t) => {
    const store = await sample(t);
    await using other = await Turn.wait(store, 'collecting', { signal: new AbortController().signal });
    assert.ok(other);
    await assert.rejects(collect(store, []), { code: 'STORE_BUSY', exitStatus: 7 });
    assert.equal((await held(store))[0].length, 4);
    await other[Symbol.asyncDispose]();
    const [name = ''] = await readdir(join(store.stateDir, 'collecting')).catch(() => []);
    assert.equal(name, '');
    const { dir } = await PartialSession.open(store);
    const gone = basename(dir).replace(/-\d+-\w+$/, '-1-1'); // this pid, started at another time
    await mkdir(join(store.stateDir, 'collecting', gone), { recursive: true });
    assert.equal((await collect(store, [])).order.length, 4);
  });
});

suite('interrupted gc', () => {
  test('killed between a narinfo and its NAR, leaves a sound store, and the next run continues', async (t) => {
    const store = await sample(t);
    const victim = spawn(process.execPath, [VICTIM, store.dir], { stdio: 'inherit' });
    assert.deepEqual(await once(victim, 'exit'), [null, 'SIGKILL']);
    const [names, nars] = await held(store);
    assert.deepEqual([names.length, nars], [3, 4], 'one NAR has lost its narinfo');
    for (const name of names) {
      const info = (await store.readNarInfo(storeHashOf(pathNamed(name))))!;
      assert.ok((await store.narSizeOf(info)) !== undefined);
      for (const reference of info.references) assert.ok(names.includes(reference.slice(33)));
    }
    const result = await collect(store, [], { now: new Date(Date.now() + 8 * DAY_MS) });
    assert.deepEqual([result.removed.nars, result.leftovers.narBytes], [3, 1000]);
    assert.deepEqual(await held(store), [[], 0]);
  });

  test('interrupted, has removed closures from the top and updated the catalogue', async (t) => {
    const store = await sample(t);
    const stop = new AbortController();
    const order: string[] = [];
    const onRemoved: GcOptions['onRemoved'] = ({ storePath }) => {
      order.push(storePath.slice(44));
      stop.abort(new Error('enough'));
    };
    await assert.rejects(collect(store, [], { signal: stop.signal, onRemoved }), /enough/);
    assert.equal(order.length, 1);
    assert.deepEqual([(await held(store))[0].length, (await held(store))[1]], [3, 3]);
    assert.equal((await collect(store, [])).order.length, 3, 'nobody is at work any more');
  });

  test('interrupted among paths that share a NAR, keeps the NAR for the remaining ones', async (t) => {
    const store = await emptyStore(t);
    for (const name of ['one', 'two']) await addPath(store, name, { contents: 'same' });
    const stop = new AbortController();
    const onRemoved = (): void => stop.abort(new Error('enough'));
    await assert.rejects(collect(store, [], { signal: stop.signal, onRemoved }), /enough/);
    assert.deepEqual([(await held(store))[0].length, (await held(store))[1]], [1, 1]);
  });
});

suite('leftovers', () => {
  test('removes NARs without a narinfo after a week, without any budget', async (t) => {
    const store = await sample(t);
    const path = join(store.dir, 'nar', `${'1'.repeat(52)}.nar.xz`);
    await writeFile(path, 'half a night of work');
    const later = (days: number): Partial<GcOptions> => ({
      now: new Date(Date.now() + days * DAY_MS),
      maxBytes: undefined,
    });
    assert.equal((await collect(store, ['app'], later(6.9))).leftovers.files, 0);
    const { leftovers } = await collect(store, ['app'], { ...later(7.1), dryRun: true });
    assert.deepEqual(leftovers, { files: 1, bytes: 20, narBytes: 20 });
    await access(path);
    assert.deepEqual((await collect(store, ['app'], later(7.1))).leftovers, leftovers);
    await assert.rejects(access(path), { code: 'ENOENT' });
    assert.equal((await held(store))[0].length, 4);
  });

  test('keeps a NAR without a narinfo that was served within ten minutes', async (t) => {
    const store = await sample(t);
    const url = `nar/${'1'.repeat(52)}.nar.xz`;
    await writeFile(join(store.dir, url), 'replaced by another file');
    const lib = (await store.readNarInfo(storeHashOf(pathNamed('lib'))))!;
    const now = new Date(Date.now() + 8 * DAY_MS);
    const options = { now, maxBytes: undefined };
    await serveAt(store, { ...lib, url }, now.getTime() - 9 * 60_000);
    assert.equal((await collect(store, ['app'], options)).leftovers.files, 0);
    await serveAt(store, { ...lib, url }, now.getTime() - 11 * 60_000);
    assert.equal((await collect(store, ['app'], options)).leftovers.files, 1);
  });

  test('removes a NAR at once whose narinfo a killed collector has removed, but not one that was fetched again', async (t) => {
    const store = await sample(t);
    const catalogue = await Catalogue.open(store);
    const orphans = await Promise.all(['half', 'again'].map((name) => addPath(store, name)));
    for (const info of orphans) {
      const file = await store.statNar(info);
      await catalogue.add([
        pendingEntry({ fileHash: info.fileHash!, extension: '', ...file! }, info.storePath, 'fetch'),
      ]);
      await rm(store.narInfoPath(storeHashOf(info.storePath)));
    }
    const [half, again] = orphans.map((info) => store.narPath(info)) as [string, string];
    await utimes(again, new Date(), new Date());
    const { leftovers } = await collect(store, ['app'], { maxBytes: undefined });
    assert.deepEqual(leftovers, { files: 1, bytes: 1000, narBytes: 1000 });
    await assert.rejects(access(half), { code: 'ENOENT' });
    await access(again);
  });

  test('keeps them all if a narinfo cannot be read', async (t) => {
    const store = await sample(t);
    await writeFile(store.narInfoPath(storeHashOf(pathNamed('old'))), 'hello');
    const result = await collect(store, ['app'], { now: new Date(Date.now() + 8 * DAY_MS), maxBytes: undefined });
    assert.equal(result.leftovers.files, 0);
    assert.equal((await readdir(join(store.dir, 'nar'))).length, 4);
  });

  test('removes partial files of ended processes, temporary files, and notes of removed NARs', async (t) => {
    const store = await sample(t);
    const session = await PartialSession.open(store);
    await writeFile(session.path('mine'), 'half of it');
    const gone = session.dir.replace(/-\d+-\w+$/, '-1-1');
    await mkdir(gone);
    const old = (Date.now() - 10 * DAY_MS) / 1000;
    const files = [join(gone, 'half'), `${store.dir}/x.narinfo.0123abcd.tmp`, `${store.stateDir}/y.0123abcd.tmp`];
    for (const path of [...files, session.path('mine')]) {
      await writeFile(path, 'half of it');
      await utimes(path, old, old);
    }
    await serveAt(store, { ...(await store.readNarInfo(storeHashOf(pathNamed('lib'))))!, url: 'nar/gone' }, 0);
    const now = new Date(Date.now() + 8 * DAY_MS); // the time of change cannot be set back
    const { leftovers } = await collect(store, ['app', 'old'], { now });
    assert.deepEqual(leftovers, { files: 3, bytes: 30, narBytes: 0 });
    assert.equal((await stat(session.path('mine'))).size, 10);
    await assert.rejects(access(gone), { code: 'ENOENT' });
    assert.deepEqual(await readdir(join(store.stateDir, 'served')), []);
  });

  test('keeps NARs of an interrupted export for as long as partial files', async (t) => {
    const store = await sample(t);
    const session = await PartialSession.open(store, 'export');
    const gone = session.dir.replace(/-\d+-\w+$/, '-1-1');
    await mkdir(gone);
    await writeFile(join(gone, 'complete'), 'all of it');
    await collect(store, ['app', 'old']);
    assert.deepEqual(await readdir(gone), ['complete']);
    await collect(store, ['app', 'old'], { now: new Date(Date.now() + 8 * DAY_MS) });
    await assert.rejects(access(gone), { code: 'ENOENT' });
  });

  /** A store with a NAR of 1000 bytes, and partial files of `PARTIAL_BYTES`: name, and age in days. */
  const withPartials = async (
    t: TestContext,
    files: readonly (readonly [name: string, days: number])[],
  ): Promise<{ store: FileStore; left: () => Promise<string[]> }> => {
    const store = await emptyStore(t);
    await addPath(store, 'app');
    const running = await PartialSession.open(store);
    const gone = running.dir.replace(/-\d+-\w+$/, '-1-1');
    await mkdir(gone);
    for (const [name, days] of files) {
      const path = name === 'mine' ? running.path(name) : join(gone, name);
      const at = (Date.now() - days * DAY_MS) / 1000;
      await writeFile(path, Buffer.alloc(PARTIAL_BYTES, 1));
      await utimes(path, at, at);
    }
    const left = async (): Promise<string[]> => (await readdir(gone)).toSorted();
    return { store, left };
  };

  test('removes unwanted partial files until the store fits, those written longest ago first', async (t) => {
    const { store, left } = await withPartials(t, [
      ['b', 4],
      ['a', 2],
      ['b.pieces', 4],
      ['c', 5],
      ['wanted', 6],
      ['young', 0.9],
      ['mine', 6],
    ]);
    const wantedPartials = new Set(['wanted']);
    const within = (partials: number): Partial<GcOptions> => ({
      wantedPartials,
      maxBytes: 1000 + partials * PARTIAL_BYTES,
    });
    assert.equal((await collect(store, ['app'], within(6))).leftovers.files, 0);
    const dry = await collect(store, ['app'], { ...within(4), dryRun: true });
    assert.deepEqual(dry.leftovers, { files: 2, bytes: 2 * PARTIAL_BYTES, narBytes: 0 });
    assert.equal((await left()).length, 6);
    assert.deepEqual((await collect(store, ['app'], within(4))).leftovers, dry.leftovers);
    assert.deepEqual(await left(), ['a', 'wanted', 'young']);
    assert.equal((await collect(store, ['app'], within(0))).leftovers.files, 1);
    assert.deepEqual(await left(), ['wanted', 'young']);
    assert.deepEqual(await held(store), [['app'], 1]);
  });

  test('keeps unwanted partial files if nobody knows which are wanted, and without a budget', async (t) => {
    const { store, left } = await withPartials(t, [['a', 2]]);
    await collect(store, ['app'], { maxBytes: 0 });
    await collect(store, ['app'], { maxBytes: undefined, wantedPartials: new Set() });
    assert.deepEqual(await left(), ['a']);
  });

  test('keeps all NARs however large the partial files are', async (t) => {
    const { store } = await withPartials(t, [['wanted', 2]]);
    await addPath(store, 'loose');
    const { removed } = await collect(store, ['app'], { maxBytes: 2000, wantedPartials: new Set(['wanted']) });
    assert.equal(removed.paths, 0);
  });
});
