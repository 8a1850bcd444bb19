import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { FileHash, InfoHash, StorePath } from '../../../src/nix/brands.ts';
import { compactCatalogue } from '../../../src/store/catalogue/compact-catalogue.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import {
  formatEntry,
  pendingEntry,
  torrentOfEntry,
  type CatalogueEntry,
} from '../../../src/store/catalogue/catalogue-entry.ts';
import { LEAF, NOTE, TOP } from '../../nix/fixtures.ts';
import { emptyStore, entryFor, filledStore, unchecked } from '../store-fixture.ts';

test('keeps entries, for this process at once and for later ones', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF, 'publish');
  const catalogue = await Catalogue.open(store);
  assert.equal(catalogue.size, 0);
  await catalogue.add([entry]);
  for (const one of [catalogue, await Catalogue.open(store)]) {
    assert.deepEqual([...one.entries()], [entry]);
    assert.deepEqual(one.byInfoHash(entry.torrent!.infoHash), [entry]);
    assert.deepEqual(one.byStorePath(entry.storePath), entry);
  }
  assert.equal(torrentOfEntry(entry)?.infoHash, entry.torrent!.infoHash);
});

test('writes the same entry once', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const catalogue = await Catalogue.open(store);
  await catalogue.add([entry]);
  const before = await readFile(pathOf(store.stateDir), 'utf8');
  await catalogue.add([entry]);
  assert.equal(await readFile(pathOf(store.stateDir), 'utf8'), before);
  await catalogue.add([{ ...entry, mtimeMs: entry.mtimeMs + 1 }]);
  assert.equal((await Catalogue.open(store)).byStorePath(entry.storePath)?.mtimeMs, entry.mtimeMs + 1);
});

test('reads entries that others have added since', async (t) => {
  const store = await filledStore(t);
  const [one, other] = [await Catalogue.open(store), await Catalogue.open(store)];
  await one.add([await entryFor(store, LEAF)]);
  assert.deepEqual(await Promise.all([other.refresh(), other.refresh()]), [1, 0], 'each line is read once');
  assert.equal(await other.refresh(), 0);
  await one.add([await entryFor(store, NOTE), await entryFor(store, TOP)]);
  assert.equal(await other.refresh(), 2);
  assert.equal(other.size, 3);
});

test('pieces of another length are left out, as a store of an older version has them', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const older = { ...entry, torrent: { ...entry.torrent!, pieces: Buffer.alloc(40).toString('base64') } };
  await (await Catalogue.open(store)).add([older]);
  const { torrent, ...rest } = entry;
  const catalogue = await Catalogue.open(store);
  assert.deepEqual(catalogue.byStorePath(entry.storePath), rest);
  await catalogue.add([entry]); // the file was hashed again
  assert.deepEqual((await Catalogue.open(store)).byStorePath(entry.storePath)?.torrent, torrent);
});

test('a torn last line costs one entry', async (t) => {
  const store = await filledStore(t);
  const catalogue = await Catalogue.open(store);
  await catalogue.add([await entryFor(store, LEAF)]);
  await catalogue.add([await entryFor(store, NOTE)]);
  const path = pathOf(store.stateDir);
  await truncate(path, (await readFile(path)).length - 20); // the machine went down
  const after = await Catalogue.open(store);
  assert.equal(after.size, 1);
  await after.add([await entryFor(store, TOP)]);
  assert.deepEqual(
    [...(await Catalogue.open(store)).entries()].map((entry) => entry.storePath.slice(11, 43)),
    [LEAF, TOP],
  );
});

test('reads a half written line once it is complete', async (t) => {
  const store = await filledStore(t);
  const line = `${formatEntry(await entryFor(store, LEAF))}\n`;
  const path = pathOf(store.stateDir);
  await writeFile(path, line.slice(0, 50));
  const catalogue = await Catalogue.open(store);
  assert.equal(catalogue.size, 0);
  await appendFile(path, line.slice(50));
  assert.equal(await catalogue.refresh(), 1);
});

test('skips lines that are not entries', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const lines = ['', 'hello', 'null', '42', '[]', '{}', formatEntry({ ...entry, sizeBytes: '7' as unknown as number })];
  await writeFile(pathOf(store.stateDir), `${[...lines, formatEntry(entry)].join('\n')}\n`);
  assert.deepEqual([...(await Catalogue.open(store)).entries()], [entry]);
});

test('reads a replaced file again', async (t) => {
  const store = await filledStore(t);
  const path = pathOf(store.stateDir);
  const catalogue = await Catalogue.open(store);
  await catalogue.add([await entryFor(store, LEAF), await entryFor(store, NOTE)]);
  await catalogue.refresh();
  const top = await entryFor(store, TOP);
  await writeFile(`${path}.new`, `${formatEntry(top)}\n`);
  await rename(`${path}.new`, path);
  await catalogue.refresh();
  assert.deepEqual([...catalogue.entries()], [top]);
  await truncate(path, 0);
  await catalogue.refresh();
  assert.equal(catalogue.size, 0);
});

test('an entry without pieces has no infohash until its file is hashed', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const catalogue = await Catalogue.open(store);
  const pending = pendingEntry(entry, entry.storePath, 'fetch');
  await catalogue.add([pending]);
  assert.equal(torrentOfEntry(pending), undefined);
  assert.deepEqual(catalogue.byInfoHash('' as InfoHash), []);
  await catalogue.add([entry]);
  assert.deepEqual(catalogue.byInfoHash(entry.torrent!.infoHash), [entry]);
  assert.equal(catalogue.size, 1);
});

test('lines are those of every version: empty texts stand for a torrent that is unknown', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const pending = pendingEntry(await entryFor(store, NOTE), (await entryFor(store, NOTE)).storePath, 'fetch');
  await (await Catalogue.open(store)).add([entry, pending]);
  const text = await readFile(pathOf(store.stateDir), 'utf8');
  const lines = text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Record<string, unknown>]));
  assert.deepEqual(
    lines.map(({ infoHash, pieces, torrent }) => [infoHash, pieces, torrent]),
    [
      [entry.torrent?.infoHash, entry.torrent?.pieces, undefined],
      ['', '', undefined],
    ],
  );
  const read = await Catalogue.open(store);
  assert.deepEqual(
    [...read.entries()],
    [entry, pending].map(({ ...one }) => one),
  );
});

test('a line with fewer facts removes none, unless the file has changed', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const { storePath } = entry;
  const [one, two] = [await Catalogue.open(store), await Catalogue.open(store)];
  await one.add([entry]);
  await two.add([pendingEntry(entry, storePath, 'fetch'), unchecked(entry)]); // it has not read the other's lines
  await one.refresh();
  assert.deepEqual(one.byStorePath(storePath), entry);
  assert.deepEqual((await Catalogue.open(store)).byStorePath(storePath), entry);
  const changed = unchecked({ ...entry, mtimeMs: entry.mtimeMs + 1 });
  await one.add([changed]);
  assert.deepEqual(one.byInfoHash(entry.torrent!.infoHash), [changed]);
});

test('two paths may claim one torrent, and neither hides the other', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const other = { ...entry, storePath: (await entryFor(store, NOTE)).storePath };
  const catalogue = await Catalogue.open(store);
  await catalogue.add([entry, other]);
  assert.deepEqual(catalogue.byInfoHash(entry.torrent!.infoHash), [entry, other]);
  await catalogue.add([await entryFor(store, NOTE)]);
  assert.deepEqual(catalogue.byInfoHash(entry.torrent!.infoHash), [entry]);
});

test('two processes that add at once lose nothing', { timeout: 180_000 }, async (t) => {
  const store = await emptyStore(t);
  const writer = fileURLToPath(new URL('catalogue-writer.ts', import.meta.url));
  const writers = ['a', 'b'].map((name) =>
    spawn(process.execPath, [writer, store.dir, name, '200'], { stdio: 'inherit' }),
  );
  const codes = await Promise.all(writers.map((child) => once(child, 'exit')));
  assert.deepEqual(codes.flat(), [0, null, 0, null]);
  const catalogue = await Catalogue.open(store);
  assert.equal(catalogue.size, 400);
  const path = `/nix/store/${'a'.repeat(32)}-b-199` as StorePath;
  assert.equal(catalogue.byStorePath(path)?.sizeBytes, 200);
});

test('keeps entries that others add while it is compacted', { timeout: 180_000 }, async (t) => {
  const store = await emptyStore(t);
  await writeFile(join(store.dir, `${'a'.repeat(32)}.narinfo`), 'of the paths that the writers add');
  const writer = fileURLToPath(new URL('catalogue-writer.ts', import.meta.url));
  const writers = ['a', 'b'].map((name) =>
    once(spawn(process.execPath, [writer, store.dir, name, '400'], { stdio: 'inherit' }), 'exit'),
  );
  const ended = new AbortController();
  const codes = Promise.all(writers).finally(() => ended.abort());
  const follower = await Catalogue.open(store);
  let compacted = 0;
  for (let turn = 0; !ended.signal.aborted; turn++) {
    const gone = { ...GONE, storePath: `/nix/store/${'b'.repeat(32)}-gone-${turn}` as StorePath };
    await (await Catalogue.open(store)).add([gone]);
    compacted += await compactCatalogue(store);
    await follower.refresh();
  }
  assert.deepEqual((await codes).flat(), [0, null, 0, null]);
  assert.ok(compacted > 0);
  await compactCatalogue(store);
  await follower.refresh();
  assert.deepEqual([follower.size, (await Catalogue.open(store)).size], [800, 800]);
});

test('what somebody has asked for stays so if Nix asks for it, too, also once it is compacted', async (t) => {
  const store = await filledStore(t);
  const [leaf, note, top] = await Promise.all([LEAF, NOTE, TOP].map((one) => entryFor(store, one)));
  assert.ok(leaf && note && top);
  const forNix = (entry: CatalogueEntry): CatalogueEntry => ({ ...entry, askedBy: 'substituter' });
  const [one, other] = [await Catalogue.open(store), await Catalogue.open(store)];
  await one.add([leaf, forNix(note)]);
  await other.add([forNix(leaf), note, forNix(top)]); // without having read the others' lines
  const reasons = async (): Promise<(string | undefined)[]> => {
    const catalogue = await Catalogue.open(store);
    return [leaf, note, top].map(({ storePath }) => catalogue.byStorePath(storePath)?.askedBy);
  };
  assert.deepEqual(await reasons(), ['fetch', 'fetch', 'substituter']);
  assert.equal(await compactCatalogue(store), 2);
  assert.deepEqual(await reasons(), ['fetch', 'fetch', 'substituter']);
});

test('an addition is noted for a path that was fetched or that Nix has asked for, and no fetch takes that back', async (t) => {
  const store = await filledStore(t);
  const [leaf, note] = [await entryFor(store, LEAF, 'fetch'), await entryFor(store, NOTE, 'substituter')];
  const [one, follower] = [await Catalogue.open(store), await Catalogue.open(store)];
  const added = (entry: CatalogueEntry): CatalogueEntry => ({ ...entry, askedBy: 'add' });
  await one.add([leaf, note]);
  await one.add([added(leaf), added(note)]);
  await one.add([leaf, note]);
  await follower.refresh();
  for (const catalogue of [one, follower]) {
    assert.deepEqual(
      [leaf, note].map(({ storePath }) => catalogue.byStorePath(storePath)),
      [added(leaf), added(note)],
    );
    assert.deepEqual([catalogue.size, catalogue.addedCount], [2, 2]);
  }
  assert.equal(await compactCatalogue(store), 2);
  await follower.refresh();
  assert.equal(follower.addedCount, 2);
});

test('compacting leaves a catalogue without stale lines unchanged', async (t) => {
  const store = await filledStore(t);
  assert.equal(await compactCatalogue(store), 0);
  await (await Catalogue.open(store)).add([await entryFor(store, LEAF), await entryFor(store, NOTE)]);
  const { ino } = await stat(pathOf(store.stateDir));
  assert.equal(await compactCatalogue(store), 0);
  await appendFile(pathOf(store.stateDir), '{"half of');
  assert.equal(await compactCatalogue(store), 0, 'somebody may be writing it');
  assert.equal((await stat(pathOf(store.stateDir))).ino, ino);
});

test('names the file that it cannot write', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const catalogue = new Catalogue(
    Object.create(store, { stateDir: { value: join(store.dir, 'nix-cache-info', 'below-a-file') } }) as typeof store,
  );
  await assert.rejects(catalogue.add([entry]), { code: 'STORE_UNWRITABLE' });
});

const GONE = pendingEntry(
  { fileHash: '0'.repeat(52) as FileHash, sizeBytes: 1, extension: 'xz', mtimeMs: 1 },
  '' as StorePath,
  'fetch',
);

function pathOf(stateDir: string): string {
  return join(stateDir, 'catalogue.jsonl');
}
