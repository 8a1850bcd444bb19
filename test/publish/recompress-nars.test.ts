import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { formatNarInfo, parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import { parsePublicKey, type PublicKey } from '../../src/nix/signature.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { collectRecords } from '../../src/publish/collect-records.ts';
import { recompressNars, type Recompressed, type RecompressionEvent } from '../../src/publish/recompress-nars.ts';
import { buildPublication } from '../../src/publish/build-publication.ts';
import { removeReplaced } from '../../src/publish/replaced-nars.ts';
import { publisherKeyFromSeed, type PublisherIdentity } from '../../src/index/publisher-key.ts';
import { LastServed } from '../../src/store/catalogue/last-served.ts';
import { failOnWarning } from '../support/no-warnings.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { claim } from '../../src/store/claims.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialSession } from '../../src/store/session.ts';
import { assertSound } from '../support/lab.ts';
import { WrittenCache } from '../support/written-cache.ts';
import { emptyStore, entryFor } from '../store/store-fixture.ts';

const { signal } = new AbortController();

interface Scene {
  readonly cache: WrittenCache;
  readonly store: FileStore;
  readonly keys: readonly PublicKey[];
}

async function scene(t: TestContext): Promise<Scene> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-recompress-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const cache = await WrittenCache.create(dir, 'test-1');
  const store = await FileStore.open(dir, { create: true });
  return { cache, store, keys: [parsePublicKey(cache.publicKey)] };
}

async function infosIn(store: FileStore): Promise<NarInfo[]> {
  const infos = (await store.listStoreHashes()).map((hash) => store.readNarInfo(hash));
  return (await Promise.all(infos)).filter((info) => info !== undefined);
}

async function recompress(
  { store, keys }: Pick<Scene, 'store' | 'keys'>,
  infos?: readonly NarInfo[],
): Promise<Recompressed> {
  const catalogue = await Catalogue.open(store);
  const recompression = { level: undefined, tell: () => undefined };
  const context = { store, catalogue, keys, recompression, signal };
  const { done, old } = await recompressNars(infos ?? (await infosIn(store)), context);
  await removeReplaced(store, old, signal);
  return done;
}

const namesIn = async ({ dir }: FileStore): Promise<string[]> => (await readdir(join(dir, 'nar'))).toSorted();
const isZstd = (name: string): boolean => name.endsWith('.nar.zst');

/** Publishes with the files compressed again, as the command does. */
async function publish(made: Scene, key: PublisherIdentity = publisherKeyFromSeed(Buffer.alloc(32, 7))): Promise<void> {
  await buildPublication({
    ...made,
    key,
    salt: '',
    contents: () => Promise.resolve('everything'),
    validForMs: 3_600_000,
    hints: [],
    recompression: { level: undefined, tell: () => undefined },
    signal,
  });
}

/** Puts a program named sync first in PATH, during which `script` runs: it has the number of the call in $n. */
async function withSync(t: TestContext, script: string): Promise<string> {
  const bin = await mkdtemp(join(tmpdir(), 'narswarm-bin-'));
  const real = execFileSync('which', ['sync'], { encoding: 'utf8' }).trim();
  const text = `#!/bin/sh\nbin=${bin}\necho >> $bin/calls\nn=$(wc -l < $bin/calls)\n${script}\nexec ${real} "$@"\n`;
  await writeFile(join(bin, 'sync'), text, { mode: 0o755 });
  const { PATH = '' } = process.env;
  process.env['PATH'] = `${bin}:${PATH}`;
  t.after(async () => {
    process.env['PATH'] = PATH;
    await rm(bin, { recursive: true });
  });
  return bin;
}

test('narinfos name zstd files of the same NARs, with the same signatures, and the old files are gone', async (t) => {
  const { cache, store, keys } = await scene(t);
  const one = await cache.add('one', { contents: 'a'.repeat(100_000) });
  await cache.add('two', { references: [one.baseName] });
  await cache.add('twin', { contents: 'a'.repeat(100_000) });
  const before = await infosIn(store);
  const done = await recompress({ store, keys });
  assert.deepEqual([done.nars, done.left], [2, 0]);
  const { nars } = await assertSound(store.dir, cache.publicKey);
  assert.deepEqual([nars.length, nars.every(isZstd)], [2, true]);
  for (const old of before) {
    const now = await store.readNarInfoOf(old.storePath);
    const { fileHash, fileSize } = now ?? {};
    assert.ok(fileHash !== undefined && fileSize !== undefined);
    assert.deepEqual(now, { ...old, url: `nar/${fileHash}.nar.zst`, compression: 'zstd', fileHash, fileSize });
  }
  const catalogue = await Catalogue.open(store);
  const collected = await collectRecords(await infosIn(store), { store, catalogue, keys });
  assert.deepEqual([collected.records.length, collected.hashedBytes, collected.leftOut], [3, 0, []]);

  const files = await namesIn(store);
  assert.deepEqual((await recompress({ store, keys })).nars, 0);
  assert.deepEqual(await namesIn(store), files);
});

test('what only Nix has asked for is asked for by the publisher afterwards, and the rest as before', async (t) => {
  const { cache, store, keys } = await scene(t);
  const reasons = { substituter: 'publish', fetch: 'fetch', add: 'add' } as const;
  const paths: StorePath[] = [];
  for (const askedBy of Object.keys(reasons) as (keyof typeof reasons)[]) {
    const { info } = await cache.add(askedBy, { contents: askedBy });
    paths.push(info.storePath);
    await (await Catalogue.open(store)).add([await entryFor(store, storeHashOf(info.storePath), askedBy)]);
  }
  assert.equal((await recompress({ store, keys })).nars, 3);
  const catalogue = await Catalogue.open(store);
  assert.deepEqual(
    paths.map((path) => catalogue.byStorePath(path)?.askedBy),
    Object.values(reasons),
  );
});

test('an old file stays while another narinfo names it', async (t) => {
  const { cache, store, keys } = await scene(t);
  const named = await cache.add('named', { contents: 'same' });
  const other = await cache.add('other', { contents: 'same' });
  assert.equal(named.info.url, other.info.url);
  await recompress({ store, keys }, [named.info]);
  const { nars } = await assertSound(store.dir, cache.publicKey);
  assert.deepEqual([nars.length, nars.filter(isZstd).length], [2, 1]);
  await recompress({ store, keys });
  assert.equal((await assertSound(store.dir, cache.publicKey)).nars.length, 1);
});

test('an old file stays if a damaged narinfo may name it', async (t) => {
  const { cache, store, keys } = await scene(t);
  const { info } = await cache.add('one');
  const other = await cache.add('other');
  await writeFile(store.narInfoPath(storeHashOf(other.info.storePath)), 'StorePath: /nix/st');
  await recompress({ store, keys }, [info]);
  assert.equal((await namesIn(store)).length, 3);
});

test('an old file stays while another process has claimed its path', async (t) => {
  const { cache, store, keys } = await scene(t);
  const { info } = await cache.add('claimed');
  await cache.add('free');
  {
    await using session = await PartialSession.open(store);
    await claim([], [{ storeHash: storeHashOf(info.storePath) }], { store, session, signal });
    await recompress({ store, keys });
    const left = (await namesIn(store)).filter((name) => !isZstd(name));
    assert.deepEqual(left, [info.url.slice('nar/'.length)]);
  }
  await assertSound(store.dir, cache.publicKey);
});

test('an old file that was served a moment ago stays', async (t) => {
  const { cache, store, keys } = await scene(t);
  const { info } = await cache.add('served');
  await cache.add('free');
  const served = new LastServed(store, failOnWarning);
  served.note(info.url.slice('nar/'.length));
  await served.flush();
  await recompress({ store, keys });
  const left = (await namesIn(store)).filter((name) => !isZstd(name));
  assert.deepEqual(left, [info.url.slice('nar/'.length)]);
});

test('old files are removed only after the hash map of the new ones is signed', async (t) => {
  const made = await scene(t);
  const { info } = await made.cache.add('one');
  const key = publisherKeyFromSeed(Buffer.alloc(32, 7));
  const locked = { ...key, signer: () => Promise.reject(new Error('locked')) };
  await assert.rejects(publish(made, locked), /locked/);
  assert.ok((await namesIn(made.store)).includes(info.url.slice('nar/'.length)));
  await publish(made, key);
  await assertSound(made.store.dir, made.cache.publicKey);
});

test('a run that is interrupted leaves each narinfo as the published hash map has it', async (t) => {
  const { cache, store, keys } = await scene(t);
  for (let number = 0; number < 30; number++) await cache.add(`path-${number}`);
  const before = await infosIn(store);
  const catalogue = await Catalogue.open(store);
  const stop = new AbortController();
  let done = 0;
  const tell = (event: RecompressionEvent): void => {
    if (event.type === 'nar-recompressed' && ++done === 10) stop.abort();
  };
  const recompression = { level: undefined, tell };
  await assert.rejects(recompressNars(before, { store, catalogue, keys, recompression, signal: stop.signal }));
  assert.deepEqual(await infosIn(store), before);
  await assertSound(store.dir, cache.publicKey);
});

test('a narinfo is written only if the disk could take the NARs', async (t) => {
  const { cache, store, keys } = await scene(t);
  const { info } = await cache.add('one');
  await withSync(t, 'exit 1');
  await assert.rejects(recompress({ store, keys }), { code: 'STORE_UNWRITABLE' });
  assert.deepEqual(await infosIn(store), [info]);
  await assertSound(store.dir, cache.publicKey);
});

test('an old file is removed only if the disk could take the narinfo', async (t) => {
  const { cache, store, keys } = await scene(t);
  await cache.add('one');
  await withSync(t, '[ $n = 1 ] || exit 1');
  await assert.rejects(recompress({ store, keys }), { code: 'STORE_UNWRITABLE' });
  assert.equal((await namesIn(store)).length, 2);
  await assertSound(store.dir, cache.publicKey);
});

test('a run that ended before its narinfos loses nothing', async (t) => {
  const { cache, store, keys } = await scene(t);
  const { info } = await cache.add('one', { contents: 'x'.repeat(10_000) });
  await withSync(t, '[ $n != 1 ] || exit 1');
  await assert.rejects(recompress({ store, keys }));
  await rm(store.narPath(info)); // so it cannot be compressed again
  await writeFile(store.narPath(info), '');
  assert.deepEqual((await recompress({ store, keys })).nars, 1);
  await assertSound(store.dir, cache.publicKey);
});

test('signatures that a narinfo gets meanwhile stay', async (t) => {
  const { cache, store, keys } = await scene(t);
  const { info } = await cache.add('one');
  const more = formatNarInfo({ ...info, signatures: [...info.signatures, 'other-1:b25l'] });
  const file = store.narInfoPath(storeHashOf(info.storePath));
  await withSync(t, `[ $n != 1 ] || printf '%s' '${more}' > ${file}`);
  await recompress({ store, keys });
  const now = parseNarInfo(await readFile(file, 'utf8'));
  assert.deepEqual([now.compression, now.signatures.length], ['zstd', 2]);
});

test('a path that was removed or replaced meanwhile is not written again', async (t) => {
  const { cache, store, keys } = await scene(t);
  const { info } = await cache.add('one');
  await withSync(t, `[ $n != 1 ] || rm ${store.narInfoPath(storeHashOf(info.storePath))}`);
  assert.deepEqual((await recompress({ store, keys })).nars, 0);
  assert.deepEqual(await infosIn(store), []);
});

test('NARs with other contents, without a signature, and those that cannot be read stay as they are', async (t) => {
  const { cache, store, keys } = await scene(t);
  const right = await cache.add('right');
  const wrong = await cache.add('wrong', { contents: 'wrong' });
  const other = await cache.add('other', { contents: 'other' });
  await writeFile(store.narPath(wrong.info), other.file);
  const long = await cache.add('long', { contents: 'l'.repeat(1_000_000) });
  const short = await cache.add('short', { contents: 's' });
  await writeFile(store.narPath(short.info), long.file);
  const noise = await cache.add('noise', { contents: 'noise' });
  await writeFile(store.narPath(noise.info), 'noise');
  const none = await cache.add('none', { contents: 'none' });
  await rm(store.narPath(none.info));
  await cache.add('unsigned', { contents: 'unsigned', lie: () => ({ signatures: [] }) });
  await cache.add('odd', { contents: 'odd', lie: () => ({ compression: 'lrzip' }) });
  const done = await recompress({ store, keys });
  assert.deepEqual([done.nars, done.left], [3, 3]);
  const zstd = (await infosIn(store)).filter(({ compression }) => compression === 'zstd');
  assert.deepEqual(
    new Set(zstd.map(({ storePath }) => storePath)),
    new Set([right, other, long].map(({ info }) => info.storePath)),
  );
  assert.deepEqual(await readdir(join(store.stateDir, 'recompress')), []);
});

test('contents are checked against a content address that NarHash does not cover', async (t) => {
  const folder = fileURLToPath(new URL('../../fixtures/nix/content-addresses/cache/', import.meta.url));
  const read = async (hash: string): Promise<NarInfo> =>
    parseNarInfo(await readFile(join(folder, `${hash}.narinfo`), 'utf8'));
  const right = await read('migf3i53pc35bf1lkscgbi243my58ims');
  const forged = await read('123wnf4jmc02x22gs983c6iayg01xaqn');
  const other = await read('k763zwkxdgnw610bm4jy5vx5wafcwysk');
  const store = await emptyStore(t);
  for (const info of [right, { ...forged, narHash: other.narHash, narSize: other.narSize, url: other.url }]) {
    await cp(join(folder, info.url), store.narPath(info));
    await store.rewriteNarInfo(info);
  }
  const done = await recompress({ store, keys: [] });
  assert.deepEqual([done.nars, (await store.readNarInfoOf(right.storePath))?.compression], [1, 'zstd']);
  const catalogue = await Catalogue.open(store);
  assert.equal(catalogue.byStorePath(forged.storePath), undefined, 'nobody vouches for it');
  assert.notEqual((await store.readNarInfoOf(forged.storePath))?.compression, 'zstd');
});

test('says what is missing without xz', async (t) => {
  const { cache, store, keys } = await scene(t);
  await cache.add('one');
  const { PATH } = process.env;
  process.env['PATH'] = store.dir;
  try {
    await assert.rejects(recompress({ store, keys }), { code: 'NIX_MISSING', message: /install xz/ });
  } finally {
    process.env['PATH'] = PATH;
  }
});
