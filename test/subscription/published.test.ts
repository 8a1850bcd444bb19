import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { StorePath } from '../../src/nix/brands.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { contentsVersion, publishedContents } from '../../src/subscription/published.ts';
import { writeState, type Generation } from '../../src/subscription/state/state.ts';
import type { Subscription } from '../../src/subscription/subscription.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { LEAF, NOTE } from '../nix/fixtures.ts';
import { emptyStore, entryFor, filledStore, KEY } from '../store/store-fixture.ts';

const path = (name: string): StorePath => parseStorePath(`/nix/store/${'1'.repeat(32)}-${name}`);
const subscription = (name: string, publish = true): Subscription => {
  return { name, source: name, import: false, sources: false, ready: false, publish };
};
const generation = (number: number, part: Partial<Generation>): Generation => {
  return { number, at: '2026-01-01T00:00:00Z', wanted: String(number), roots: [], complete: true, ...part };
};

suite('the contents of this machine’s hash map', () => {
  test('has the newest complete generation of each subscription, by name if it is one path', async (t) => {
    const store = await emptyStore(t);
    const base = { missing: [], missingCount: 0, notes: [] };
    const [app, old, source, input] = [path('app'), path('old'), path('source'), path('input')];
    const generations = [
      generation(3, { roots: [input], complete: false }),
      generation(2, { roots: [source, app], main: app }),
      generation(1, { roots: [old], main: old }),
    ];
    await writeState(store, { ...base, name: 'app', source: 'app', generations });
    // Build inputs that replace an output are not the named output.
    await writeState(store, {
      ...base,
      name: 'built',
      source: 'built',
      generations: [generation(1, { roots: [input] })],
    });
    await writeState(store, {
      ...base,
      name: 'own',
      source: 'own',
      generations: [generation(1, { roots: [old], main: old })],
    });
    const subscriptions = [subscription('app'), subscription('built'), subscription('own', false), subscription('new')];
    assert.deepEqual(await publishedContents(store, subscriptions, []), {
      named: new Map([['app', app]]),
      unnamed: [source, input],
    });
  });

  test('has nothing if no subscription says publish, or none of those has been complete', async (t) => {
    const store = await emptyStore(t);
    const nothing = { named: new Map(), unnamed: [] };
    assert.deepEqual(await publishedContents(store, [subscription('own', false)], []), nothing);
    assert.deepEqual(await publishedContents(store, [subscription('one'), subscription('two')], []), nothing);
  });

  test('has added paths that are signed, and nothing else of the store', async (t) => {
    const store = await filledStore(t);
    const catalogue = await Catalogue.open(store);
    const added = { ...(await entryFor(store, LEAF)), askedBy: 'add' as const };
    await catalogue.add([added, { ...(await entryFor(store, NOTE)), askedBy: 'fetch' }]);
    assert.deepEqual(await publishedContents(store, [], [KEY]), { named: new Map(), unnamed: [added.storePath] });
    assert.deepEqual(await publishedContents(store, [], []), { named: new Map(), unnamed: [] });
  });

  test('has another version once a path is added that was fetched before', async (t) => {
    const store = await filledStore(t);
    const [catalogue, other] = [await Catalogue.open(store), await Catalogue.open(store)];
    await catalogue.add([await entryFor(store, LEAF, 'fetch')]);
    const version = await contentsVersion(store, catalogue);
    await other.add([await entryFor(store, LEAF, 'add')]);
    await catalogue.refresh();
    assert.notEqual(await contentsVersion(store, catalogue), version);
  });
});
