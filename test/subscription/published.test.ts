import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { publishedContents } from '../../src/subscription/published.ts';
import { writeState, type Generation } from '../../src/subscription/state.ts';
import { Lab } from '../support/lab.ts';

const ONE = parseStorePath(`/nix/store/${'a'.repeat(32)}-one`);
const TWO = parseStorePath(`/nix/store/${'b'.repeat(32)}-two`);

test('a map is of the newest complete generations of what says so, and of the whole store only where nothing does', async () => {
  await using lab = await Lab.open();
  const store = await FileStore.open(await lab.folder('store'), { create: true });
  const common = { source: '/x', import: false, sources: false };
  const own = { ...common, name: 'own', publish: true };
  const many = { ...common, name: 'many', publish: true };
  const other = { ...common, name: 'other', publish: false };
  const write = (name: string, ...generations: readonly Pick<Generation, 'roots' | 'complete'>[]): Promise<void> =>
    writeState(store, {
      name,
      source: '/x',
      generations: generations.map(({ roots, complete }, index) => ({
        number: 9 - index,
        at: '',
        wanted: '',
        roots,
        complete,
      })),
      missing: [],
      missingCount: 0,
      notes: [],
    });
  const nothing = { named: new Map(), unnamed: [] };

  assert.deepEqual(await publishedContents(store, []), nothing);
  await write('other', { roots: [TWO], complete: true });
  assert.deepEqual(await publishedContents(store, [other]), nothing, 'all that the store holds');
  const refused = { code: 'NOT_FOUND', message: /of own no generation was ever complete/ };
  await assert.rejects(publishedContents(store, [own, other]), refused);
  await write('own', { roots: [ONE], complete: false });
  await assert.rejects(publishedContents(store, [own, other]), refused);
  await write('own', { roots: [TWO], complete: false }, { roots: [ONE], complete: true });
  assert.deepEqual(await publishedContents(store, [own, other]), { named: new Map([['own', ONE]]), unnamed: [] });
  await write('many', { roots: [ONE, TWO], complete: true });
  assert.deepEqual(await publishedContents(store, [own, many]), {
    named: new Map([['own', ONE]]),
    unnamed: [ONE, TWO],
  });
});
