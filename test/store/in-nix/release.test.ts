/** Which NAR files a store lets go of since the Nix store has their paths. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdir, readdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { asFileHash } from '../../../src/nix/hash.ts';
import { storeHashOf } from '../../../src/nix/store-path.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import { claim } from '../../../src/store/claims.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { narStateOf } from '../../../src/store/catalogue/nar-state.ts';
import { writeReplicas } from '../../../src/store/replicas.ts';
import { NixNars } from '../../../src/store/in-nix/nix-nars.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { entryFor } from '../store-fixture.ts';
import { collect, entryIn, importedStore, placeOf } from './imported-store.ts';

useNixFolder(() => undefined);

async function narsOf(store: FileStore): Promise<string[]> {
  return (await readdir(join(store.dir, 'nar'))).toSorted();
}

function nameOf({ url }: { readonly url: string }): string {
  return url.slice('nar/'.length);
}

function deleteInNix({ storePath }: { readonly storePath: string }): void {
  assert.equal(spawnSync('nix-store', ['--delete', storePath]).status, 0);
}

test('lets go of what Nix has, keeps the narinfos, and records where the NARs are', async (t) => {
  const { store, top, leaf, note } = await importedStore(t);
  const before = await narsOf(store);
  const dry = await collect(store, {}, { dryRun: true });
  assert.deepEqual([dry.released.nars, await narsOf(store)], [before.length, before]);
  const { released, kept } = await collect(store);
  assert.deepEqual(released, dry.released);
  assert.deepEqual([kept.paths, kept.bytes], [3, 0]);
  const sizes = [top, leaf, note].map(({ fileSize = 0 }) => fileSize);
  assert.equal(
    released.bytes,
    sizes.reduce((sum, bytes) => sum + bytes),
  );
  assert.deepEqual(await narsOf(store), []);
  const catalogue = await Catalogue.open(store);
  for (const info of [top, leaf, note]) {
    const entry = await entryIn(store, info);
    assert.deepEqual([entry.isInNix, entry.fileHash, entry.sizeBytes], [true, info.narHash, info.narSize]);
    assert.equal(await narStateOf(store, catalogue, info), 'never', 'it would be fetched again');
  }
  assert.equal((await collect(store)).released.nars, 0);
});

test('under pressure, lets go of the longest unused, only as many as needed, and removes no path', async (t) => {
  const { store, top, leaf, note } = await importedStore(t);
  for (const [hours, info] of [top, leaf, note].entries())
    await utimes(store.narPath(info), new Date(), new Date(Date.now() - (hours + 1) * 3_600_000));
  const catalogue = await Catalogue.open(store);
  for (const { storePath } of [top, leaf, note]) await catalogue.add([await entryFor(store, storeHashOf(storePath))]);
  const sizes = [top, leaf, note].reduce((sum, { fileSize = 0 }) => sum + fileSize, 0);
  assert.equal((await collect(store, { when: 'pressure' })).released.nars, 0);
  assert.equal((await collect(store, { when: 'pressure' }, { maxBytes: sizes })).released.nars, 0);
  const { released, removed } = await collect(store, { when: 'pressure' }, { maxBytes: sizes - 1 });
  assert.deepEqual([released.nars, removed.paths], [1, 0]);
  assert.deepEqual(await narsOf(store), [nameOf(top), nameOf(leaf)].toSorted());
});

test('keeps the NARs of pins and of subscriptions that are not imported here', async (t) => {
  const { store, top, leaf } = await importedStore(t);
  const before = await narsOf(store);
  assert.equal((await collect(store, {}, { keep: [top.storePath] })).released.nars, 0);
  assert.equal(
    (await collect(store, { imported: new Set(['other']) }, { keep: [top.storePath], keeper: 'mirror' })).released.nars,
    0,
  );
  assert.deepEqual(await narsOf(store), before);
  await collect(store, {}, { keep: [leaf.storePath] });
  assert.deepEqual(await narsOf(store), [nameOf(leaf)]);
  await collect(store, { imported: new Set(['desktop']) }, { keep: [top.storePath], keeper: 'desktop' });
  assert.deepEqual(await narsOf(store), []);
});

test('keeps what this machine has added or published, what a process counts on, and what was served just now', async (t) => {
  const { store, top, leaf, note } = await importedStore(t);
  const catalogue = await Catalogue.open(store);
  await catalogue.add([await entryFor(store, storeHashOf(top.storePath), 'add')]);
  await using session = await PartialSession.open(store);
  const { signal } = new AbortController();
  await claim([], [{ storeHash: storeHashOf(leaf.storePath) }], { store, session, signal });
  const served = join(store.stateDir, 'served');
  await mkdir(served, { recursive: true });
  await writeFile(join(served, nameOf(note)), '');
  assert.equal((await collect(store)).released.nars, 0);
});

test('keeps everything in a store with a hash map of its own', async (t) => {
  const { store } = await importedStore(t);
  await mkdir(join(store.stateDir, 'published', 'map'), { recursive: true });
  assert.equal((await collect(store)).released.nars, 0);
});

test('keeps the file of a path that is not valid, or whose contents Nix has otherwise', async (t) => {
  const { store, top, leaf, note } = await importedStore(t);
  await chmod(dirname(placeOf(leaf)), 0o755);
  // On the disk, but not valid: Nix removes it soon.
  spawnSync('cp', ['-a', placeOf(top), `${placeOf(top)}.copy`]);
  deleteInNix(top);
  await rename(`${placeOf(top)}.copy`, placeOf(top));
  await chmod(placeOf(leaf), 0o755);
  await rename(placeOf(leaf), `${placeOf(leaf)}.old`);
  await writeFile(placeOf(leaf), 'other');
  await utimes(placeOf(leaf), 1, 1);
  await collect(store);
  assert.deepEqual(await narsOf(store), [nameOf(top), nameOf(leaf)].toSorted());
  assert.notEqual((await entryIn(store, leaf)).isInNix, true);
  assert.equal((await entryIn(store, note)).isInNix, true);
});

test('catalogues the paths of an imported subscription again, if they have the signed contents', async (t) => {
  const { store, top, leaf } = await importedStore(t);
  const releasing = { imported: new Set(['desktop']) };
  const how = { keep: [top.storePath], keeper: 'desktop' };
  await collect(store, releasing, how);
  const known = async (): Promise<string[]> =>
    Array.from((await Catalogue.open(store)).entries(), ({ storePath }) => storePath).toSorted();
  const before = await known();
  assert.ok(before.includes(leaf.storePath) && before.includes(top.storePath));
  await rm(join(store.stateDir, 'catalogue.jsonl'));
  await collect(store, { imported: new Set() }, how);
  assert.deepEqual(await known(), [], 'nobody has asked for them by a subscription that is imported');
  await chmod(dirname(placeOf(leaf)), 0o755);
  await chmod(placeOf(leaf), 0o755);
  await rename(placeOf(leaf), `${placeOf(leaf)}.old`);
  await writeFile(placeOf(leaf), 'other');
  await utimes(placeOf(leaf), 1, 1);
  await collect(store, releasing, how);
  const withoutLeaf = await known();
  assert.ok(withoutLeaf.includes(top.storePath) && !withoutLeaf.includes(leaf.storePath));
  assert.equal((await entryIn(store, top)).isInNix, true);
});

test('keeps a file that a path needs which Nix has not', async (t) => {
  const { store, top, leaf } = await importedStore(t);
  deleteInNix(top);
  const { url, fileHash = asFileHash(leaf.narHash), fileSize = 0 } = leaf;
  await store.rewriteNarInfo({ ...top, url, fileHash, fileSize });
  await rm(store.narPath(top));
  await collect(store);
  assert.ok((await narsOf(store)).includes(nameOf(leaf)));
});

test('under pressure, NARs that no other machine holds go last', async (t) => {
  const { store, top, leaf, note } = await importedStore(t);
  const all = await narsOf(store);
  const fromOthers = nameOf(leaf);
  const sole = [nameOf(top), nameOf(note)];
  await writeReplicas(store, { at: new Date().toISOString(), machines: 1, roots: [], sole });
  const sizes = [top, leaf, note].reduce((sum, { fileSize = 0 }) => sum + fileSize, 0);
  await utimes(store.narPath(leaf), new Date(), new Date());
  for (const info of [top, note]) await utimes(store.narPath(info), 1, 1);
  await collect(store, { when: 'pressure' }, { maxBytes: sizes - 1 });
  assert.deepEqual(
    await narsOf(store),
    all.filter((name) => name !== fromOthers),
  );
});

test('a file that was left by a killed run goes with the next one', async (t) => {
  const { store, top } = await importedStore(t);
  const kept = join(store.dir, 'before');
  await copyFile(store.narPath(top), kept);
  await collect(store);
  await rename(kept, store.narPath(top)); // as if the run had been killed before it removed the file
  assert.equal((await collect(store)).released.nars, 1);
  assert.deepEqual(await narsOf(store), []);
  assert.equal((await entryIn(store, top)).isInNix, true);
});

test('narinfos of released NARs stay with others as long as Nix has the paths, whatever a limit removes', async (t) => {
  const { store, top } = await importedStore(t);
  await collect(store);
  const limited = { maxBytes: -1, storeHashes: () => Promise.resolve(new Set<string>()) };
  assert.deepEqual((await collect(store, {}, { limited })).kept, { paths: 3, nars: 3, bytes: 0 });
  deleteInNix(top);
  const { removed, kept } = await collect(store, {}, { limited });
  assert.deepEqual([removed.paths, kept.paths], [1, 2]);
});

test('reads a path with other contents once, as long as it and its narinfo stay the same', async (t) => {
  const { store, leaf } = await importedStore(t);
  const change = async (contents: string): Promise<void> => {
    await chmod(dirname(placeOf(leaf)), 0o755);
    await rm(placeOf(leaf), { recursive: true });
    await writeFile(placeOf(leaf), contents);
    await utimes(placeOf(leaf), 1, 1);
  };
  const hashes = async (): Promise<number> => {
    const nars = new NixNars();
    const hash = t.mock.method(nars, 'hash');
    await collect(store, { nars });
    assert.notEqual((await entryIn(store, leaf)).isInNix, true);
    return hash.mock.calls.filter(({ arguments: [path] }) => path === leaf.storePath).length;
  };
  await change('other');
  assert.deepEqual([await hashes(), await hashes(), await hashes()], [1, 0, 0]);
  await change('others');
  assert.deepEqual([await hashes(), await hashes()], [1, 0]);
  await writeFile(join(store.stateDir, 'refused.json'), 'torn');
  assert.deepEqual([await hashes(), await hashes()], [1, 0]);
});
