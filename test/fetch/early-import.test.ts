/** Imports from a file store into the real Nix. */
import assert from 'node:assert/strict';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { commit } from '../../src/fetch/commit.ts';
import { EarlyImport } from '../../src/fetch/early-import.ts';
import { noteEarly } from '../../src/fetch/noted-import.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { queryInvalidPaths } from '../../src/nix/nix-queries.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { Catalogue } from '../../src/store/catalogue.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { inState } from '../../src/store/state-folder.ts';
import { LEAF, NOTE, readFixture, TOP } from '../nix/fixtures.ts';
import { filledStore, infoOf } from '../store/store-fixture.ts';
import { useNixFolder } from '../support/nix-folder.ts';
import { closureOf } from './closure-of.ts';

let to = '';
const { fakeProgram } = useNixFolder((folder) => {
  to = `local?root=${folder}/target`;
});

interface Scene {
  readonly store: FileStore;
  readonly infos: readonly [top: NarInfo, leaf: NarInfo, note: NarInfo];
  readonly early: EarlyImport;
  readonly copied: StorePath[];
  /** Returns the folders of imports that are left. */
  readonly folders: () => Promise<string[]>;
  readonly invalid: () => Promise<ReadonlySet<StorePath>>;
}

/** A store with the NARs of a closure and without its narinfos. `top` refers to itself and to the others. */
async function scene(
  t: TestContext,
  { toDownloadBytes = 0, aheadBytes = Infinity, compression = 'xz' } = {},
): Promise<Scene> {
  const store = await filledStore(t);
  const infos = [await infoOf(store, TOP), await infoOf(store, LEAF), await infoOf(store, NOTE)] as const;
  for (const hash of [TOP, LEAF, NOTE]) await rm(store.narInfoPath(parseStoreHash(hash)));
  const copied: StorePath[] = [];
  const paths = infos.map(({ storePath }) => storePath);
  const closure = closureOf(...infos.map((info) => ({ ...info, compression })));
  const early = new EarlyImport(closure, new Set(paths), {
    store,
    to,
    trustedPublicKeys: [readFixture('fixture-1.public').trim()],
    checkSignatures: true,
    toDownloadBytes,
    aheadBytes,
    lastingMs: 0,
    tell: (event) => {
      if (event.type === 'path-copied') copied.push(event.path as StorePath);
    },
    signal: new AbortController().signal,
  });
  t.after(() => early[Symbol.asyncDispose]());
  return {
    store,
    infos,
    early,
    copied,
    folders: () => readdir(inState(store, 'import')),
    invalid: () => queryInvalidPaths(paths, to, {}),
  };
}

test('imports a path once its references have arrived, and leaves nothing behind', async (t) => {
  const { infos, early, copied, folders, invalid } = await scene(t);
  const [top, leaf, note] = infos;
  early.add([top]);
  await early.end();
  assert.deepEqual(copied, []);
  early.add([leaf, note]);
  await early.end();
  assert.deepEqual(new Set(early.imported.keys()), new Set(infos.map(({ storePath }) => storePath)));
  assert.equal(copied.at(-1), top.storePath);
  assert.equal((await invalid()).size, 0);
  await early[Symbol.asyncDispose]();
  assert.deepEqual(await folders(), []);
});

test('lets Nix decode if the disk may get full', async (t) => {
  fakeProgram('xz', 'exit 1');
  const { infos, early, invalid } = await scene(t, { toDownloadBytes: Number.MAX_SAFE_INTEGER });
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
});

test('runs nix copy if no connection to Nix can be opened', async (t) => {
  fakeProgram('nix-daemon', 'exit 1');
  const { infos, early, invalid } = await scene(t);
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
});

test('runs nix copy if a connection to Nix does not answer', async (t) => {
  fakeProgram('nix-daemon', 'exec sleep 1000');
  const { infos, early, invalid } = await scene(t);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  early.add(infos);
  const over = early.end().then(() => true);
  while ((await Promise.race([over, nextTurn()])) !== true) t.mock.timers.tick(1_000);
  t.mock.timers.reset();
  assert.equal((await invalid()).size, 0);
});

test('imports decoded NARs over a connection to Nix', async (t) => {
  const { infos, early, store, invalid } = await scene(t);
  const log = join(store.dir, 'started');
  for (const program of ['nix', 'nix-daemon'])
    fakeProgram(program, `echo "${program} $*" >>'${log}'; PATH=\${PATH#*:} exec ${program} "$@"`);
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
  const started = await readFile(log, 'utf8');
  assert.match(started, /^nix-daemon --stdio/m);
  assert.doesNotMatch(started, / copy /);
});

test('opens no connection to Nix if no NAR can be decoded here', async (t) => {
  const { infos, early, store } = await scene(t, { compression: 'zstd' });
  const log = join(store.dir, 'started');
  for (const program of ['nix', 'nix-daemon']) fakeProgram(program, `echo "${program} $*" >>'${log}'; exit 1`);
  early.add(infos);
  await early.end();
  assert.doesNotMatch(await readFile(log, 'utf8'), /^nix-daemon/m);
});

test('imports nothing more after a refusal', async (t) => {
  const { infos, early } = await scene(t);
  const [top, leaf, note] = infos;
  early.add([{ ...leaf, signatures: [], ca: undefined } as unknown as NarInfo]);
  await early.end();
  early.add([note, top]);
  await early.end();
  assert.deepEqual([...early.imported.keys()], []);
});

test('imports waiting paths at once when no more will arrive', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] }); // time stands still
  const { infos, early, copied } = await scene(t);
  const [, leaf, note] = infos;
  const untilCopied = async (count: number): Promise<void> => {
    for (; copied.length < count; await nextTurn()) t.mock.timers.tick(0);
  };
  early.add([leaf]);
  await untilCopied(1);
  early.add([note]);
  early.noMore();
  await untilCopied(2);
});

test('waits for a reference that takes longer to decode', async (t) => {
  const { infos, early, copied } = await scene(t);
  const [top, leaf] = infos;
  fakeProgram('xz', `case "$*" in *${leaf.fileHash}*) sleep 1 ;; esac; PATH=\${PATH#*:} exec xz "$@"`);
  early.add(infos);
  await early.end();
  assert.equal(early.imported.size, 3);
  assert.equal(copied.at(-1), top.storePath);
});

test('decodes a NAR before its references have arrived', async (t) => {
  const { infos, early, store } = await scene(t, { aheadBytes: 1 });
  const [top, leaf, note] = infos;
  const log = join(store.dir, 'decoded');
  fakeProgram('xz', `echo "$*" >>'${log}'; PATH=\${PATH#*:} exec xz "$@"`);
  early.add([top, leaf]);
  await early.end();
  assert.deepEqual([...early.imported.keys()], [leaf.storePath]);
  assert.match(await readFile(log, 'utf8'), new RegExp(`${top.fileHash}`));
  early.add([note]);
  await early.end();
  assert.equal(early.imported.size, 3);
});

test('only the file that Nix has read counts as sound', async (t) => {
  const { infos, early, store } = await scene(t);
  const [, leaf, note] = infos;
  await commit(closureOf(leaf, note), [], store);
  early.add([leaf, note]);
  await early.end();
  const file = early.imported.get(note.storePath);
  assert.ok(file);
  const imported = new Map(early.imported).set(note.storePath, { ...file, mtimeMs: file.mtimeMs + 1 });
  await noteEarly(imported, { store, held: undefined });
  const catalogue = await Catalogue.open(store);
  const hashes = [leaf, note].map(({ storePath }) => catalogue.byStorePath(storePath)?.narHash);
  assert.deepEqual(hashes, [leaf.narHash, undefined]);
});
