/** NARs that are checked after the fetch: no peer gets one before its NarHash was computed. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { contentsOf, pendingEntry, type CatalogueEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { NixNars } from '../../src/store/in-nix/nix-nars.ts';
import { Gate } from '../../src/serve/gate.ts';
import { NarChecker } from '../../src/serve/nar-checker.ts';
import { LEAF, NOTE } from '../nix/fixtures.ts';
import { entryFor, filledStore, infoOf, KEY, sharedBy, unchecked } from '../store/store-fixture.ts';
import type { Warning } from '../../src/warning.ts';
import { niceValues, openedForWriting } from './nice-threads.ts';

const signal = new AbortController().signal;
const LIMIT = { timeout: 180_000 };

interface Scene {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly checker: NarChecker;
  readonly gate: Gate;
  readonly warnings: Warning[];
}

async function scene(t: TestContext, entries: (store: FileStore) => Promise<CatalogueEntry[]>): Promise<Scene> {
  const store = await filledStore(t);
  const catalogue = await Catalogue.open(store);
  await catalogue.add(await entries(store));
  const warnings: Warning[] = [];
  const checker = new NarChecker({
    store,
    catalogue,
    nixNars: new NixNars(),
    keys: [KEY],
    onWarning: (warning) => warnings.push(warning),
  });
  t.after(() => checker.close());
  return { store, catalogue, checker, gate: new Gate(store, catalogue, sharedBy(store), checker), warnings };
}

/** Returns the narinfo of one path with the file of another in its unsigned fields. */
async function lie(store: FileStore, hash: string, file: NarInfo): Promise<NarInfo> {
  const { url, compression, fileHash, fileSize } = file;
  assert.ok(fileHash !== undefined && fileSize !== undefined);
  const info = { ...(await infoOf(store, hash)), url, compression, fileHash, fileSize };
  await store.rewriteNarInfo(info);
  return info;
}

/** Asks like a peer until the file is admitted. On a busy machine, a check takes longer than one question waits. */
async function untilAdmitted(t: TestContext, gate: Gate, { torrent }: CatalogueEntry): Promise<void> {
  while ((await gate.admit(torrent!.infoHash)) === undefined) t.signal.throwIfAborted();
}

test('serves a NAR of an earlier catalogue to the first peer that asks, and remembers the result', LIMIT, async (t) => {
  const { store, gate, catalogue, warnings } = await scene(t, async (made) => [unchecked(await entryFor(made, LEAF))]);
  const entry = await entryFor(store, LEAF);
  await untilAdmitted(t, gate, entry);
  assert.deepEqual(catalogue.byStorePath(entry.storePath), entry);
  const later = new Gate(store, await Catalogue.open(store), sharedBy(store)); // it does not check contents itself
  assert.ok((await later.admit(entry.torrent!.infoHash)) !== undefined);
  assert.deepEqual(warnings, []);
});

test('checks all others in the background, and computes unknown pieces', async (t) => {
  const { store, catalogue, checker } = await scene(t, async (made) => {
    const note = await entryFor(made, NOTE);
    return [unchecked(await entryFor(made, LEAF)), pendingEntry(note, note.storePath, 'add')];
  });
  await checker.checkAll(signal);
  for (const [hash, askedBy] of [
    [LEAF, 'fetch'],
    [NOTE, 'add'],
  ] as const) {
    const entry = await entryFor(store, hash, askedBy);
    assert.deepEqual(catalogue.byStorePath(entry.storePath), entry);
  }
});

test('a NAR that nobody waits for is not checked while questions come, and one that somebody waits for is', async (t) => {
  const { store, catalogue } = await scene(t, async (made) => [unchecked(await entryFor(made, LEAF))]);
  const checker = new NarChecker({
    store,
    catalogue,
    nixNars: new NixNars(),
    keys: [KEY],
    onWarning: () => undefined,
    giveWayMs: 1 << 30,
  });
  t.after(() => checker.close());
  const stop = new AbortController();
  checker.giveWay();
  const all = checker.checkAll(stop.signal);
  const [entry] = catalogue.entries();
  const checked = await checker.check(entry!, await infoOf(store, LEAF), 'now');
  assert.ok(checked?.narHash !== undefined);
  stop.abort();
  await assert.rejects(all, { name: 'AbortError' });
});

test('reads a NAR whose contents are known for its pieces alone', async (t) => {
  const { store, catalogue, checker } = await scene(t, async (made) => {
    const { torrent: _, ...entry } = await entryFor(made, LEAF);
    return [{ ...entry, narHash: 'none:1' as const }]; // no check of the contents would find this
  });
  await checker.checkAll(signal);
  const entry = await entryFor(store, LEAF);
  assert.deepEqual(catalogue.byStorePath(entry.storePath), { ...entry, narHash: 'none:1' });
});

test(
  'does not serve a private NAR that a signed narinfo of another path names, but still serves its own path',
  LIMIT,
  async (t) => {
    const { store, gate, checker, catalogue, warnings } = await scene(t, async (made) => {
      const [secret, note] = [await infoOf(made, LEAF), await entryFor(made, NOTE)];
      await lie(made, NOTE, secret);
      return [unchecked({ ...(await entryFor(made, LEAF)), storePath: note.storePath })];
    });
    const [secret, { storePath }] = [await entryFor(store, LEAF), await infoOf(store, NOTE)];
    assert.equal(await gate.admit(secret.torrent!.infoHash), undefined);
    await checker.checkAll(signal);
    assert.equal(await gate.admit(secret.torrent!.infoHash), undefined);
    // The check of the first question may still be running.
    for (; warnings.length === 0; await sleep(10)) t.signal.throwIfAborted();
    assert.deepEqual(warnings, [{ kind: 'wrong-contents', path: storePath }]);
    await catalogue.add([unchecked(secret)]);
    await untilAdmitted(t, gate, secret); // the lie does not keep out the right narinfo
  },
);

test('does not serve a file that differs from its entry or cannot be decompressed', async (t) => {
  const { store, gate, catalogue, checker } = await scene(t, async (made) => [unchecked(await entryFor(made, LEAF))]);
  const [info, entry] = [await infoOf(store, LEAF), await entryFor(store, LEAF)];
  const junk = Buffer.concat([Buffer.from('fd377a585a00', 'hex'), Buffer.alloc(5000, 'x')]); // begins as xz does
  await writeFile(store.narPath(info), junk);
  const { mtimeMs, sizeBytes } = (await store.statNar(info))!;
  const listed = { ...unchecked(entry), mtimeMs, sizeBytes };
  await catalogue.add([listed]);
  assert.equal(await checker.check(listed, info, 'now'), undefined, 'its SHA-256 is another');

  const fileHash = fileHashOf(createHash('sha256').update(junk).digest());
  const named = { ...info, fileHash, fileSize: junk.length, url: FileStore.narUrl(fileHash, 'xz') };
  await writeFile(store.narPath(named), junk);
  await store.rewriteNarInfo(named);
  const file = (await store.statNar(named))!;
  await catalogue.add([pendingEntry({ fileHash, extension: 'xz', ...file }, info.storePath, 'fetch')]);
  await checker.checkAll(signal);
  const found = catalogue.byStorePath(info.storePath)!;
  assert.equal(found.narHash, `none:${info.narSize}`);
  assert.equal(await gate.admit(found.torrent!.infoHash), undefined);
  assert.equal(
    contentsOf(found, { ...info, narSize: info.narSize + 1 }),
    'unknown',
    'more was signed than was looked at',
  );
});

test('a missing or changed file delays no other, and is tried again once it changes', async (t) => {
  const { store, catalogue, checker } = await scene(t, async (made) => [
    unchecked(await entryFor(made, NOTE)),
    unchecked(await entryFor(made, LEAF)),
  ]);
  const [note, leaf] = [await infoOf(store, NOTE), await infoOf(store, LEAF)];
  const aside = `${store.dir}/aside`;
  await rename(store.narPath(note), aside);
  await checker.checkAll(signal);
  assert.equal(catalogue.byStorePath(note.storePath)?.narHash, undefined);
  assert.equal(catalogue.byStorePath(leaf.storePath)?.narHash, leaf.narHash);
  await rename(aside, store.narPath(note));
  assert.equal(await checker.check(catalogue.byStorePath(note.storePath)!, note, 'now'), undefined, 'too soon');
  const file = { ...catalogue.byStorePath(note.storePath)!, mtimeMs: 1 };
  assert.equal((await checker.check(file, note, 'now'))?.narHash, note.narHash);
});

test('does not check NARs without a trusted signature', async (t) => {
  const { store, catalogue } = await scene(t, async (made) => [unchecked(await entryFor(made, LEAF))]);
  const checker = new NarChecker({ store, catalogue, nixNars: new NixNars(), keys: [], onWarning: () => undefined });
  await checker.checkAll(signal);
  await checker.close();
  assert.equal(catalogue.byStorePath((await infoOf(store, LEAF)).storePath)?.narHash, undefined);
});

test('a peer does not wait for a check that gets no processor time', { timeout: 180_000 }, async (t) => {
  const { store, catalogue, checker } = await scene(t, async (made) => [unchecked(await entryFor(made, LEAF))]);
  const info = await infoOf(store, LEAF);
  const entry = catalogue.byStorePath(info.storePath)!;
  const [path, aside, pipe] = [store.narPath(info), `${store.dir}/aside`, `${store.dir}/pipe`];
  await rename(path, aside);
  execFileSync('mkfifo', [path]); // a check that opens it stands still
  const forNobody = checker.check(entry, info, 'later');
  while (!(await niceValues()).includes(5)) t.signal.throwIfAborted();
  const writer = await openedForWriting(path, t.signal);
  await rename(path, pipe);
  await rename(aside, path);
  try {
    const forPeer = checker.check(entry, info, 'now');
    assert.notEqual(forPeer, forNobody, 'the peer waits for the check that stands still');
    assert.equal((await forPeer)?.narHash, info.narHash);
  } finally {
    await writer.close();
  }
  await forNobody;
});
