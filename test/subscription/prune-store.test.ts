/** What a daemon removes after it has fetched for Nix. */
import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import { addPin } from '../../src/store/pins.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { Turn } from '../../src/store/turn.ts';
import { pruneStore } from '../../src/subscription/prune-store.ts';
import type { Warning } from '../../src/warning.ts';
import { emptyStore } from '../store/store-fixture.ts';
import { addPath, pathNamed } from '../store/synthetic-store.ts';

async function prune(t: TestContext, store: FileStore, maxBytes: number): Promise<Warning[]> {
  const warnings: Warning[] = [];
  const stop = new AbortController();
  t.after(() => stop.abort());
  const onWarning = (warning: Warning): number => warnings.push(warning);
  await pruneStore(store, { maxBytes, keepGenerations: 1, configured: [], signal: stop.signal, onWarning });
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
