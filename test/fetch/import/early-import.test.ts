/** Imports from a file store into the real Nix. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { commit } from '../../../src/fetch/commit/commit.ts';
import { EarlyImport } from '../../../src/fetch/import/early-import.ts';
import { noteEarly } from '../../../src/fetch/import/noted-import.ts';
import type { StorePath } from '../../../src/nix/brands.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../../src/nix/nix32.ts';
import { queryInvalidPaths } from '../../../src/nix/programs/nix-queries.ts';
import { parseStoreHash, parseStorePath } from '../../../src/nix/store-path.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { inState } from '../../../src/store/state-folder.ts';
import { LEAF, NOTE, readFixture, TOP } from '../../nix/fixtures.ts';
import { filledStore, infoOf } from '../../store/store-fixture.ts';
import { Lab } from '../../support/lab.ts';
import { startNixDaemon } from '../../support/nix-daemon.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { closureOf } from '../walk/closure-of.ts';

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
async function scene(t: TestContext, { checkSignatures = true, moreBytes = 0 } = {}): Promise<Scene> {
  const store = await filledStore(t);
  const infos = [await infoOf(store, TOP), await infoOf(store, LEAF), await infoOf(store, NOTE)] as const;
  for (const hash of [TOP, LEAF, NOTE]) await rm(store.narInfoPath(parseStoreHash(hash)));
  const copied: StorePath[] = [];
  const paths = infos.map(({ storePath }) => storePath);
  const closure = closureOf(...infos.map((info) => ({ ...info, narSize: info.narSize + moreBytes })));
  const early = new EarlyImport(closure, new Set(paths), {
    store,
    to,
    trustedPublicKeys: [readFixture('fixture-1.public').trim()],
    checkSignatures,
    toDownloadBytes: 0,
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

/** Notes the starts of Nix from now on. @returns a function that reads them, such as `nix-daemon --stdio` */
function noteStarts(dir: string): () => Promise<string> {
  const log = join(dir, 'started');
  for (const program of ['nix', 'nix-daemon'])
    fakeProgram(program, `echo "${program} $*" >>'${log}'; PATH=\${PATH#*:} exec ${program} "$@"`);
  return () => readFile(log, 'utf8');
}

for (const checkSignatures of [true, false])
  test(`imports a path once its references have arrived, by ${checkSignatures ? 'connections' : 'nix copy'}`, async (t) => {
    const { infos, early, copied, folders, invalid } = await scene(t, { checkSignatures });
    const [top, leaf, note] = infos;
    early.add([top]);
    await early.end();
    assert.deepEqual(copied, []);
    early.add([leaf]);
    await early.end();
    assert.deepEqual(copied, [leaf.storePath]);
    early.add([note]);
    await early.end();
    assert.deepEqual(new Set(early.imported.keys()), new Set(infos.map(({ storePath }) => storePath)));
    assert.equal(copied.at(-1), top.storePath);
    assert.equal((await invalid()).size, 0);
    await early[Symbol.asyncDispose]();
    assert.deepEqual(await folders(), [], 'nothing is left behind');
  });

test('runs nix copy if no connection to Nix can be opened', async (t) => {
  fakeProgram('nix-daemon', 'exit 1');
  const { infos, early, invalid } = await scene(t);
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
});

test('runs nix copy if a connection to Nix does not answer', async (t) => {
  const { infos, early, store, invalid } = await scene(t);
  const started = join(store.dir, 'started');
  fakeProgram('nix-daemon', `: >'${started}'; exec sleep 1000`);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  early.add(infos);
  while (!existsSync(started)) await nextTurn();
  t.mock.timers.tick(150_000);
  t.mock.timers.reset();
  await early.end();
  assert.equal((await invalid()).size, 0);
});

test('runs nix copy if a Nix cannot read the folder, such as a daemon with folders of its own', async (t) => {
  const { infos, early, store, invalid } = await scene(t);
  const hide = `mount -t tmpfs tmpfs ${inState(store, 'import')} && PATH=\${PATH#*:} exec nix-daemon "$@"`;
  fakeProgram('nix-daemon', `exec unshare --mount sh -c '${hide}' sh "$@"`);
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
});

test('imports over connections to a running daemon that trusts this user', async (t) => {
  await using lab = await Lab.open();
  const target = `local?root=${await lab.folder('target')}`;
  execFileSync('nix-store', ['--init', '--store', target]); // two connections must not make it
  const env = await startNixDaemon(lab, ['trusted-users = *', 'trusted-public-keys ='], target);
  Object.assign(process.env, env);
  to = 'daemon';
  const { infos, early, store, invalid } = await scene(t);
  const started = noteStarts(store.dir);
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
  assert.doesNotMatch(await started(), / copy |nix-daemon/);
});

test('imports over connections to Nix, without nix copy', async (t) => {
  const { infos, early, store, invalid } = await scene(t);
  const started = noteStarts(store.dir);
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
  assert.match(await started(), /^nix-daemon --stdio/m);
  assert.doesNotMatch(await started(), / copy /);
});

test('runs nix copy if unsigned paths are allowed', async (t) => {
  const { infos, early, store, invalid } = await scene(t, { checkSignatures: false });
  const started = noteStarts(store.dir);
  early.add(infos);
  await early.end();
  assert.equal((await invalid()).size, 0);
  assert.doesNotMatch(await started(), /nix-daemon/);
});

test('runs nix copy if the Nix daemon does not trust this user, whose caches it would not ask', async (t) => {
  to = 'daemon';
  const { infos, early, store } = await scene(t);
  const log = join(store.dir, 'started');
  fakeProgram('nix', `echo "nix $*" >>'${log}'; echo '{"url":"daemon","trusted":0}'`);
  const socket = join(store.dir, 'socket');
  process.env.NIX_DAEMON_SOCKET_PATH = socket;
  let connections = 0;
  await using daemon = createServer((connection) => {
    connections++;
    connection.destroy();
  }).listen(socket);
  await once(daemon, 'listening');
  early.add(infos);
  await early.end();
  assert.match(await readFile(log, 'utf8'), / copy /);
  assert.equal(connections, 0);
});

for (const [version, imported] of [
  ['2.34.0', 0],
  ['2.8.0', 3],
] as const)
  test(`Nix ${version} gets ${imported} paths of a large closure whose download has just ended`, async (t) => {
    const { infos, early } = await scene(t, { moreBytes: 1024 ** 3 });
    const real = 'PATH=${PATH#*:} exec nix "$@"';
    fakeProgram('nix', `case "$*" in *--version) echo 'nix (Nix) ${version}' ;; *) ${real} ;; esac`);
    early.add(infos);
    await early.end();
    assert.equal(early.imported.size, imported, 'the rest is for one nix copy');
  });

for (const [version, isStarted] of [
  ['2.34.0', false],
  ['2.8.0', true],
] as const)
  test(`with Nix ${version}, many paths that wait at the end are ${isStarted ? 'not ' : ''}left to nix copy`, async (t) => {
    const { store, infos } = await scene(t);
    const many = Array.from({ length: 150 }, (_, index): NarInfo => {
      const hash = encodeNix32(Buffer.alloc(20, index));
      return { ...infos[0], references: [], storePath: parseStorePath(`/nix/store/${hash}-many`) };
    });
    await using early = new EarlyImport(closureOf(...many), new Set(many.map(({ storePath }) => storePath)), {
      store,
      to,
      trustedPublicKeys: [],
      toDownloadBytes: 0,
      tell: () => undefined,
      signal: new AbortController().signal,
    });
    const log = join(store.dir, 'started');
    fakeProgram('nix-daemon', `echo started >>'${log}'`);
    fakeProgram('nix', `echo 'nix (Nix) ${version}'`);
    early.add(many);
    await early.end();
    assert.equal(existsSync(log), isStarted);
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

test('nix copy takes the waiting paths at once when the last NAR has arrived', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] }); // time stands still
  const { infos, early, copied } = await scene(t, { checkSignatures: false });
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
