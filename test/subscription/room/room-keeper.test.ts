import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { Root } from '../../../src/store/collect/keep.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { RoomKeeper } from '../../../src/subscription/room/room-keeper.ts';
import { emptyStore } from '../../store/store-fixture.ts';
import { addPath, pathNamed } from '../../store/synthetic-store.ts';

/** Bytes of a NAR. */
const BYTES = 1000;
/** One sixteenth is two NARs. */
const MAX_BYTES = 32 * BYTES;

suite('the room of a subscription that arrives', () => {
  /** Keeps a store within {@link MAX_BYTES}. `count` returns the number of collections. */
  const keeping = (
    store: FileStore,
    kept: readonly string[],
  ): { keeper: RoomKeeper; count: () => number; ended: () => Promise<void> } => {
    let count = 0;
    const roots = (): Promise<Root[]> =>
      Promise.resolve(kept.map((name) => ({ storePath: pathNamed(name), keeper: undefined, isWhole: true })));
    const yielding = () => {
      count++;
      return Promise.resolve({ keepers: new Set<string>(), record: () => Promise.resolve() });
    };
    const { signal } = new AbortController();
    const keeper = new RoomKeeper({ store, maxBytes: MAX_BYTES, roots, yielding, signal });
    return { keeper, count: () => count, ended: () => keeper[Symbol.asyncDispose]() };
  };
  const arrive = (keeper: RoomKeeper, nars: number): void => {
    for (let at = 0; at < nars; at++) keeper.tell({ type: 'nar-fetched', nar: String(at), sizeBytes: BYTES });
  };
  const narsIn = async (store: FileStore): Promise<number> => (await readdir(join(store.dir, 'nar'))).length;

  test('is made only once more than a sixteenth has arrived', async (t) => {
    const store = await emptyStore(t);
    for (let at = 0; at < 36; at++) await addPath(store, `p${at}`, { bytes: BYTES });
    const little = keeping(store, []);
    arrive(little.keeper, 2);
    await little.ended();
    assert.deepEqual([await narsIn(store), little.count()], [36, 0]);
    const more = keeping(store, []);
    arrive(more.keeper, 3);
    await more.ended();
    assert.deepEqual([await narsIn(store), more.count()], [32, 1]);
  });

  test('is not made while the budget has some', async (t) => {
    const store = await emptyStore(t);
    for (let at = 0; at < 30; at++) await addPath(store, `p${at}`, { bytes: BYTES });
    const { keeper, count, ended } = keeping(store, []);
    arrive(keeper, 3);
    await ended();
    assert.deepEqual([await narsIn(store), count()], [30, 0]);
  });

  test('is not looked for again once the budget cannot be met', async (t) => {
    const store = await emptyStore(t);
    const names = Array.from({ length: 36 }, (_, at) => `p${at}`);
    for (const name of names) await addPath(store, name, { bytes: BYTES });
    const { keeper, count, ended } = keeping(store, names);
    arrive(keeper, 3);
    await keeper.settled();
    arrive(keeper, 30);
    await ended();
    assert.deepEqual([await narsIn(store), count()], [36, 1]);
  });

  test('is made again after another sixteenth', async (t) => {
    const store = await emptyStore(t);
    for (let at = 0; at < 36; at++) await addPath(store, `p${at}`, { bytes: BYTES });
    const { keeper, count, ended } = keeping(store, []);
    arrive(keeper, 3);
    await keeper.settled();
    for (let at = 0; at < 3; at++) await addPath(store, `q${at}`, { bytes: BYTES });
    arrive(keeper, 2);
    await keeper.settled();
    assert.deepEqual([await narsIn(store), count()], [35, 1]);
    arrive(keeper, 1);
    await ended();
    assert.deepEqual([await narsIn(store), count()], [32, 2]);
  });
});
