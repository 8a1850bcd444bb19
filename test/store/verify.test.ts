/** Tests which damage verify finds, what it quarantines, and what it leaves alone. */
import assert from 'node:assert/strict';
import { readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { parseStoreHash, storeHashOf } from '../../src/nix/store-path.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { Gate } from '../../src/serve/gate.ts';
import type { HashingEvent } from '../../src/store/hashing/hashing.ts';
import { hashNars } from '../../src/store/hashing/hash-pool.ts';
import { quarantine } from '../../src/store/quarantine.ts';
import type { Damage } from '../../src/store/damage/damage.ts';
import { verifyStore, type VerifyOptions, type VerifyResult } from '../../src/store/verify.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { emptyStore, entryFor, filledStore, infoOf, KEY, sharedBy, unchecked } from './store-fixture.ts';
import { addPath } from './synthetic-store.ts';

async function verify(
  store: FileStore,
  options: Partial<VerifyOptions> = {},
): Promise<VerifyResult & { damages: readonly Damage[] }> {
  const damages: Damage[] = [];
  const result = await verifyStore({
    store,
    hashes: undefined,
    deep: false,
    keys: [KEY],
    signal: new AbortController().signal,
    onDamage: (damage) => damages.push(damage),
    ...options,
  });
  return { ...result, damages };
}

/** Flips a bit as a disk does: size and times stay. */
async function rot(path: string): Promise<void> {
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  bytes[bytes.length >> 1]! ^= 1;
  await writeFile(path, bytes);
  await utimes(path, atime, mtime);
}

async function edit(path: string, change: (text: string) => string): Promise<void> {
  await writeFile(path, change(await readFile(path, 'utf8')));
}

async function rotted(t: TestContext): Promise<{ store: FileStore; path: string; name: string }> {
  const store = await filledStore(t);
  const path = store.narPath(await infoOf(store, LEAF));
  await rot(path);
  return { store, path, name: basename(path) };
}

suite('verify', () => {
  test('finds nothing in a sound store, shallow and deep', async (t) => {
    const store = await filledStore(t);
    for (const deep of [false, true]) {
      const { narInfos, nars, absent, untrusted, damages } = await verify(store, { deep });
      assert.deepEqual({ narInfos, nars, absent, untrusted }, { narInfos: 3, nars: 3, absent: 0, untrusted: 0 });
      assert.deepEqual(damages, []);
    }
  });

  test('tells what it will read, and each NAR that it has read', async (t) => {
    const store = await filledStore(t);
    const leaf = storeHashOf((await infoOf(store, LEAF)).storePath);
    for (const [hashes, count] of [
      [undefined, 3],
      [[leaf], 1],
    ] as const) {
      const told: HashingEvent[] = [];
      const { bytes } = await verify(store, { hashes, tellHashing: (event) => told.push(event) });
      assert.deepEqual(told.shift(), { type: 'hashing', nars: count, bytes });
      assert.equal(told.length, count);
    }
  });

  test('quarantines a damaged NAR, keeps its narinfo, and the gate refuses it', async (t) => {
    const { store, path, name } = await rotted(t);
    const entry = { ...(await entryFor(store, NOTE)) };
    const info = await infoOf(store, LEAF);
    const catalogue = await Catalogue.open(store);
    const file = (await store.statNar(info))!;
    // as it was listed before the bit flipped: size and time are the same, so that the gate sees no difference
    const leaf = { ...(await listedBefore(t)), mtimeMs: file.mtimeMs };
    await catalogue.add([entry, leaf]);
    const gate = new Gate(store, catalogue, sharedBy(store));
    assert.ok((await gate.admit(leaf.torrent!.infoHash)) !== undefined);

    const { damages } = await verify(store);
    assert.equal(damages.length, 1);
    assert.equal(damages[0]?.storePath, info.storePath);
    assert.equal(damages[0]?.fault.kind, 'other-file');
    assert.deepEqual(await readdir(join(store.stateDir, 'quarantine')), [name]);
    await assert.rejects(stat(path), { code: 'ENOENT' });
    assert.ok((await store.readNarInfo(parseStoreHash(LEAF))) !== undefined);
    assert.equal(await gate.admit(leaf.torrent!.infoHash), undefined);
    assert.ok((await gate.admit(entry.torrent!.infoHash)) !== undefined);
    const again = await verify(store);
    assert.deepEqual(
      [again.damages.map((damage) => [damage.isGone, damage.file]), again.absent],
      [[[true, `nar/${name}`]], 0],
      'what was here once is missed until it is back',
    );
  });

  test('reports a quarantined narinfo until it is back, even if nothing refers to it', async (t) => {
    const store = await filledStore(t);
    const files = [LEAF, TOP].map((hash) => `${hash}.narinfo`);
    const sound = await Promise.all(files.map((file) => readFile(join(store.dir, file))));
    for (const file of files) await writeFile(join(store.dir, file), 'junk');
    assert.equal((await verify(store)).damages.length, 2);
    for (const hashes of [undefined, [parseStoreHash(TOP), parseStoreHash(LEAF)]]) {
      const { damages, damaged } = await verify(store, { hashes });
      assert.deepEqual(damages.map(({ file }) => file).toSorted(), files);
      assert.equal(damaged, 2);
      for (const { fault, isGone } of damages) assert.deepEqual([fault, isGone], [{ kind: 'gone' }, true]);
    }
    await writeFile(join(store.dir, files[1]!), sound[1]!);
    const [leaf, ...more] = (await verify(store)).damages;
    assert.deepEqual(
      [leaf?.file, leaf?.storePath, more],
      [files[0], '/nix/store/2s4q97y13dynyhi482033jrx8vka36yx-leaf-1.0', []],
    );
    await writeFile(join(store.dir, files[0]!), sound[0]!);
    assert.deepEqual((await verify(store)).damages, []);
  });

  test('reports a missing narinfo that another one refers to, once', async (t) => {
    const store = await filledStore(t);
    await rm(store.narInfoPath(parseStoreHash(NOTE)));
    const { damages } = await verify(store);
    assert.deepEqual(
      damages.map(({ file, storeHash, isGone }) => [file, storeHash, isGone]),
      [[`${NOTE}.narinfo`, NOTE, true]],
    );
    assert.deepEqual(damages[0]?.fault, { kind: 'lost-reference', referrer: (await infoOf(store, TOP)).storePath });
    assert.deepEqual((await verify(store, { hashes: [parseStoreHash(TOP)] })).damages, []);
  });

  test('deep: reports a narinfo that names a NAR with other contents in later runs, too', async (t) => {
    const store = await emptyStore(t);
    const info = await addPath(store, 'altered');
    await store.rewriteNarInfo({ ...info, narSize: 10 });
    const { damages: found } = await verify(store, { deep: true });
    const narInfo = `${storeHashOf(info.storePath)}.narinfo`;
    // the file may be the right one of another path
    assert.deepEqual(
      found.map(({ file }) => file),
      [narInfo],
    );
    const { damages } = await verify(store);
    assert.deepEqual(
      damages.map(({ file }) => file),
      [narInfo],
    );
  });

  test('reports a quarantined NAR, even if no catalogue lists it', async (t) => {
    const { store, name } = await rotted(t);
    await verify(store);
    const { damages, absent } = await verify(store);
    assert.deepEqual([damages.map(({ file, isGone }) => [file, isGone]), absent], [[[`nar/${name}`, true]], 0]);
  });

  test('verifies only the named paths', async (t) => {
    const { store } = await rotted(t);
    assert.deepEqual((await verify(store, { hashes: [parseStoreHash(NOTE)] })).damages, []);
    await assert.rejects(verify(store, { hashes: [parseStoreHash('0'.repeat(32))] }), { code: 'NOT_FOUND' });
    assert.equal((await verify(store, { hashes: [parseStoreHash(LEAF)] })).damages.length, 1);
  });

  test('checks a NAR without a narinfo against its own name', async (t) => {
    const { store, path } = await rotted(t);
    for (const hash of [TOP, LEAF]) await rm(store.narInfoPath(parseStoreHash(hash)));
    await writeFile(join(store.dir, 'nar', 'README'), 'not ours');
    const { damages, nars } = await verify(store);
    assert.deepEqual([nars, damages.map(({ file }) => file)], [3, [`nar/${basename(path)}`]]);
    assert.equal(damages[0]?.storeHash, undefined);
  });

  test('finds a malformed narinfo, one of another path, and one with a wrong FileSize', async (t) => {
    const store = await filledStore(t);
    const path = (hash: string): string => store.narInfoPath(parseStoreHash(hash));
    await writeFile(path(LEAF), await readFile(path(NOTE)));
    await edit(path(NOTE), (text) => text.replace(/^FileSize: \d+/m, 'FileSize: 7'));
    await edit(path(TOP), (text) => text.slice(0, -10));
    const { damages } = await verify(store);
    const faults = new Map(damages.map(({ storeHash, fault }) => [storeHash, fault]));
    assert.equal(faults.get(parseStoreHash(LEAF))?.kind, 'other-path');
    assert.partialDeepStrictEqual(faults.get(parseStoreHash(NOTE)), { kind: 'wrong-file-size', said: 7 });
    const torn = faults.get(parseStoreHash(TOP));
    assert.ok(torn?.kind === 'malformed-narinfo');
    assert.match(torn.reason, /cut short/);
    assert.deepEqual(await store.listStoreHashes(), []);
    assert.equal((await readdir(join(store.dir, 'nar'))).length, 3);
  });

  test('deep: finds unsigned lines that some Nix refuses', async (t) => {
    for (const [line, value] of [
      ['CA', 'foo'],
      ['Sig', 'garbage'],
      ['Deriver', 'x/y'],
    ] as const) {
      const store = await filledStore(t);
      const without = new RegExp(`^${line}: .*\n`, 'm');
      await edit(store.narInfoPath(parseStoreHash(NOTE)), (text) => `${text.replace(without, '')}${line}: ${value}\n`);
      const { damages } = await verify(store, { deep: true });
      assert.deepEqual(
        damages.map(({ file }) => file),
        [`${NOTE}.narinfo`],
      );
      assert.deepEqual(damages[0]?.fault, { kind: 'wrong-line', line, value });
    }
  });

  test('deep: finds unsigned contents with the right FileHash, and an altered narinfo', async (t) => {
    const store = await filledStore(t);
    const [leaf, note] = [await infoOf(store, LEAF), await infoOf(store, NOTE)];
    // a narinfo whose unsigned fields name another path's NAR
    await edit(store.narInfoPath(parseStoreHash(LEAF)), (text) =>
      text
        .replace(/^URL: .*$/m, `URL: ${note.url}`)
        .replace(/^FileHash: .*$/m, `FileHash: sha256:${note.fileHash}`)
        .replace(/^FileSize: .*$/m, `FileSize: ${note.fileSize}`),
    );
    await edit(store.narInfoPath(parseStoreHash(TOP)), (text) =>
      text.replace(/^NarSize: (\d+)$/m, (_line, size: string) => `NarSize: ${Number(size) + 1}`),
    );
    assert.deepEqual((await verify(store)).damages, [], 'what is signed is not looked at');
    const { damages } = await verify(store, { deep: true });
    assert.deepEqual(
      damages.map(({ file }) => file).toSorted((a, b) => a.localeCompare(b)),
      [`${LEAF}.narinfo`, `${TOP}.narinfo`],
    );
    assert.equal(damages.find(({ file }) => file.startsWith(LEAF))?.storePath, leaf.storePath);
    assert.ok((await store.statNar(note)) !== undefined, 'the NAR that was named is the right one of its own path');
    assert.equal(damages.find(({ file }) => file.startsWith(TOP))?.fault.kind, 'forged');
  });

  test('deep: counts narinfos without a trusted signature, but not as damage', async (t) => {
    const store = await filledStore(t);
    const { untrusted, damages } = await verify(store, { deep: true, keys: [] });
    assert.deepEqual([untrusted, damages], [2, []], 'one follows from its content address');
  });

  test('deep: a missing program is not damage', async (t) => {
    const store = await filledStore(t);
    const path = process.env['PATH'];
    process.env['PATH'] = store.dir;
    t.after(() => (process.env['PATH'] = path));
    await assert.rejects(verify(store, { deep: true }), { code: 'NIX_MISSING', message: /no `xz` in PATH/ });
    assert.equal((await readdir(join(store.dir, 'nar'))).length, 3);
  });

  test('deep: decompresses no more than the signed size', async (t) => {
    const store = await emptyStore(t);
    const info = await addPath(store, 'bomb', { bytes: 100_000 });
    await store.rewriteNarInfo({ ...info, narSize: 10_000 });
    const { damages } = await verify(store, { deep: true });
    assert.partialDeepStrictEqual(damages[0]?.fault, {
      kind: 'wrong-nar-named',
      contents: { kind: 'unusable-contents', narSize: 10_000 },
    });
  });

  test('keeps a file that was repaired while it was read', async (t) => {
    const { store, path } = await rotted(t);
    const seen = { sizeBytes: (await stat(path)).size, mtimeMs: Math.floor((await stat(path)).mtimeMs) - 1 };
    const bytes = await readFile(path);
    assert.equal(await quarantine(store, path, seen), undefined);
    assert.deepEqual(await readFile(path), bytes);
    assert.deepEqual(await readdir(join(store.stateDir, 'quarantine')), []);
    await rename(path, `${path}.gone`);
    assert.equal(await quarantine(store, path, seen), undefined);
  });

  test('deep: a file that a collector removes meanwhile is not damage', async (t) => {
    for (const collectsAt of ['after its narinfo was read', 'while it is decompressed'] as const) {
      const store = await filledStore(t);
      await (await Catalogue.open(store)).add([await entryFor(store, TOP)]);
      const top = await infoOf(store, TOP);
      const collect = async (): Promise<void> => {
        await rm(store.narInfoPath(parseStoreHash(TOP)), { force: true });
        await rm(store.narPath(top), { force: true });
      };
      const readNarInfo: FileStore['readNarInfo'] = async (hash) => {
        const info = await store.readNarInfo(hash);
        if (hash === TOP && collectsAt === 'after its narinfo was read') await collect();
        if (hash === TOP) setImmediate(() => void collect());
        return info;
      };
      const beside = Object.create(store, { readNarInfo: { value: readNarInfo } }) as FileStore;
      assert.deepEqual((await verify(beside, { deep: true })).damages, [], collectsAt);
    }
  });

  test('deep: remembers its findings, and reports them without reading again', async (t) => {
    const store = await filledStore(t);
    const [leaf, note] = [await entryFor(store, LEAF), await infoOf(store, NOTE)];
    await (await Catalogue.open(store)).add([unchecked(leaf)]);
    await verify(store, { deep: true });
    assert.deepEqual((await Catalogue.open(store)).byStorePath(leaf.storePath), leaf);
    await (await Catalogue.open(store)).add([{ ...leaf, narHash: note.narHash }]);
    const { damages } = await verify(store);
    assert.deepEqual(
      damages.map(({ file }) => file),
      [`${LEAF}.narinfo`],
    );
  });

  test('ends if its signal aborts', async (t) => {
    const store = await filledStore(t);
    await assert.rejects(verify(store, { signal: AbortSignal.abort(new Error('enough')) }), /enough/);
  });
});

suite('hashing a stream of files', () => {
  test('requests at most a few thousand files ahead, also with workers, and drops the rest', async (t) => {
    const store = await emptyStore(t);
    const info = await addPath(store, 'one', { bytes: 20_000 });
    let asked = 0;
    let isOpen = true;
    const items = function* (): Generator<{ path: string; sizeBytes: number }> {
      try {
        for (; asked < 20_000; asked++) yield { path: store.narPath(info), sizeBytes: 20_000 };
      } finally {
        isOpen = false;
      }
    };
    let done = 0;
    for await (const { hashes } of hashNars(items())) {
      assert.equal(hashes.fileHash, info.fileHash);
      assert.ok(asked - done < 4_200, `${asked} asked for, ${done} done`);
      if (++done === 100) break;
    }
    assert.equal(isOpen, false);
    assert.equal(storeHashOf(info.storePath).length, 32);
  });
});

/** Returns the catalogue's entry of a sound leaf. */
async function listedBefore(t: TestContext): Promise<Awaited<ReturnType<typeof entryFor>>> {
  return entryFor(await filledStore(t), LEAF);
}
