/** What a daemon removes after it has fetched for Nix. */
import assert from 'node:assert/strict';
import { truncate, utimes } from 'node:fs/promises';
import { suite, test, type TestContext } from 'node:test';
import { addPin } from '../../../src/store/pins.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import { pendingEntry, type AskedBy } from '../../../src/store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { Turn } from '../../../src/store/turn.ts';
import { pruneStore } from '../../../src/subscription/room/prune-store.ts';
import { releasingOf } from '../../../src/subscription/room/releasing.ts';
import { limitOfSubstituted, substitutedOf } from '../../../src/subscription/room/substituted.ts';
import type { Warning } from '../../../src/warning.ts';
import { emptyStore } from '../../store/store-fixture.ts';
import { addPath, pathNamed, type Made } from '../../store/synthetic-store.ts';

/** Two of them exceed the limit for what nobody but Nix has asked for. */
const LARGE = 9e9;

async function prune(t: TestContext, store: FileStore, maxBytes: number | undefined): Promise<Warning[]> {
  const warnings: Warning[] = [];
  const stop = new AbortController();
  t.after(() => stop.abort());
  const onWarning = (warning: Warning): number => warnings.push(warning);
  const catalogue = await Catalogue.open(store);
  const { signal } = stop;
  const releasing = releasingOf('compressed', [], []);
  await pruneStore(store, { maxBytes, catalogue, keepGenerations: 1, configured: [], releasing, signal, onWarning });
  return warnings;
}

suite('the budget of a daemon that serves Nix', () => {
  test('removes what nothing keeps, the oldest first, and no more than it has to', async (t) => {
    const store = await emptyStore(t);
    for (const [name, hours] of [
      ['pinned', 3],
      ['old', 2],
      ['new', 1],
    ] as const)
      await addPath(store, name, { bytes: 1000, atMs: Date.now() - hours * 3_600_000 });
    await addPin(store, pathNamed('pinned'), new Date(), new AbortController().signal);
    assert.deepEqual(await prune(t, store, 2000), []);
    const isThere = async (name: string): Promise<boolean> =>
      (await store.readNarInfoOf(pathNamed(name))) !== undefined;
    assert.deepEqual(await Promise.all(['pinned', 'old', 'new'].map(isThere)), [true, false, true]);
  });

  test('with a budget, removes first what nobody but Nix has asked for', async (t) => {
    const store = await emptyStore(t);
    const catalogue = await Catalogue.open(store);
    for (const [name, by, hours] of [
      ['fetched', 'fetch', 4],
      ['for-nix', 'substituter', 3],
      ['for-nix-later', 'substituter', 2],
      ['last', 'fetch', 1],
    ] as const) {
      const info = await addPath(store, name, { bytes: 1000, atMs: Date.now() - hours * 3_600_000 });
      const file = { fileHash: info.fileHash!, extension: '', ...(await store.statNar(info))! };
      await catalogue.add([pendingEntry(file, info.storePath, by)]);
    }
    const left = async (): Promise<string[]> => {
      const there: string[] = [];
      for (const name of ['fetched', 'for-nix', 'for-nix-later', 'last'])
        if ((await store.readNarInfoOf(pathNamed(name))) !== undefined) there.push(name);
      return there;
    };
    assert.deepEqual(await prune(t, store, 3000), []);
    assert.deepEqual(await left(), ['fetched', 'for-nix-later', 'last']);
    assert.deepEqual(await prune(t, store, 1000), []);
    assert.deepEqual(await left(), ['last']);
  });

  test('without a budget, bounds only what nobody but Nix has asked for', async (t) => {
    const store = await emptyStore(t);
    const catalogue = await Catalogue.open(store);
    const askedBy = {
      fetched: 'fetch',
      added: 'add',
      'for-nix': 'substituter',
      'for-nix-later': 'substituter',
      both: 'substituter',
      pinned: 'substituter',
      needed: 'substituter',
    } as const;
    let hours = Object.keys(askedBy).length;
    for (const [name, by] of Object.entries(askedBy)) await addLarge(name, by);
    await addLarge('copied', undefined, { refersTo: ['needed'] });
    await catalogue.add([{ ...catalogue.byStorePath(pathNamed('both'))!, askedBy: 'fetch' }]);
    await addPin(store, pathNamed('pinned'), new Date(), new AbortController().signal);

    const limit = await limitOfSubstituted(store, await substitutedOf(catalogue));
    assert.ok(limit <= 10e9);
    assert.deepEqual(await prune(t, store, undefined), []);
    const left = await Promise.all(
      [...Object.keys(askedBy), 'copied'].map(async (name) =>
        (await store.readNarInfoOf(pathNamed(name))) === undefined ? undefined : name,
      ),
    );
    const isLater = limit >= LARGE ? ['for-nix-later'] : [];
    const kept = ['fetched', 'added', ...isLater, 'both', 'pinned', 'needed', 'copied'];
    assert.deepEqual(
      left.filter((name) => name !== undefined),
      kept,
    );

    /** Adds a path whose NAR is a hole. */
    async function addLarge(name: string, by: AskedBy | undefined, made: Made = {}): Promise<void> {
      const atMs = Date.now() - hours-- * 3_600_000;
      const info = await addPath(store, name, made);
      await truncate(store.narPath(info), LARGE);
      await utimes(store.narPath(info), atMs / 1000, atMs / 1000);
      const file = { fileHash: info.fileHash!, extension: '', ...(await store.statNar(info))! };
      if (by !== undefined) await catalogue.add([pendingEntry(file, info.storePath, by)]);
    }
  });

  test('leaves it to the next update while another collector runs', async (t) => {
    const store = await emptyStore(t);
    await addPath(store, 'old', { bytes: 1000 });
    const collector = await Turn.take(store, 'collecting');
    assert.ok(collector instanceof Turn);
    t.after(() => collector[Symbol.asyncDispose]());
    assert.deepEqual(await prune(t, store, 0), []);
    assert.ok((await store.readNarInfoOf(pathNamed('old'))) !== undefined);
  });
});
