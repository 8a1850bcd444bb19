/** Peers and caches together: if one side fails or lies, the other soon gives the NARs. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { buildIndex, writeIndex } from '../index/built-index.ts';
import { formatPublisherAddress } from '../../src/index/address.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { toRecord } from '../../src/index/record.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { hashNar } from '../../src/store/hashing/hash-nar.ts';
import { extensionOf, narTorrent } from '../../src/torrent/canonical.ts';
import { Swarm, type Seed } from '../../src/swarm/swarm.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import {
  ALONE,
  assertFailure,
  assertSound,
  Lab,
  mirrorOf,
  narBytesOf,
  readNarInfos,
  requisites,
  type Run,
} from '../support/lab.ts';
import { startSilentPeer } from '../support/silent-peer.ts';

const [KEY, OTHER_KEY] = [publisherKeyFromSeed(Buffer.alloc(32, 5)), publisherKeyFromSeed(Buffer.alloc(32, 6))];

/** The tests wait more than they work. */
describe('peers and upstreams', { concurrency: 4 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let upstream: HttpCache;
  let totalBytes: number;
  let infos: readonly NarInfo[];
  /** The NAR that is lied about: of two pieces. */
  let large: NarInfo;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_500_000, 60_000, 5_000]);
    totalBytes = await narBytesOf(made.cacheDir);
    upstream = lab.use(await startHttpCache(made.cacheDir));
    infos = [...(await readNarInfos(made.cacheDir)).values()];
    const [first] = infos.toSorted((a, b) => (b.fileSize ?? 0) - (a.fileSize ?? 0));
    assert.ok(first !== undefined);
    large = first;
  });
  after(() => lab[Symbol.asyncDispose]());

  const fetch = async (
    args: readonly string[],
    { store, root = made.root }: { store?: string; root?: string } = {},
  ): Promise<Run & { store: string }> => {
    const dir = store ?? (await lab.folder('store'));
    const what = ['--store', dir, '--trusted-public-key', made.publicKey];
    return { ...(await lab.run(['fetch', root, ...what, ...args])), store: dir };
  };

  /**
   * A hash map of a dishonest publisher at a mirror, and a peer that serves what the map names.
   *
   * @param bytesOf the bytes that the map's torrent is of, for each narinfo
   */
  const publishLies = async (
    records: readonly NarInfo[],
    bytesOf: (info: NarInfo) => Promise<Buffer>,
    key = KEY,
  ): Promise<readonly string[]> => {
    const dir = await lab.folder('lies');
    const seeds = new Map<string, Seed>();
    const withTorrents: NarInfo[] = [];
    for (const info of records) {
      const path = join(dir, info.storePath.slice('/nix/store/'.length));
      await writeFile(path, await bytesOf(info));
      const hashes = await hashNar(path);
      const { fileHash, fileSize } = info;
      assert.ok(hashes !== undefined && fileHash !== undefined && hashes.sizeBytes === fileSize);
      const torrent = narTorrent({ ...hashes, fileHash, extension: extensionOf(info.compression) });
      seeds.set(torrent.infoHash, { torrent, files: [{ path, sizeBytes: fileSize }] });
      withTorrents.push(toRecord(info, torrent));
    }
    const index = new IndexDir(join(dir, 'index'));
    const now = Date.now();
    await writeIndex(
      index,
      await buildIndex({
        records: withTorrents,
        key,
        salt: '',
        seq: 1,
        created: new Date(now),
        expires: new Date(now + 3_600_000),
        storeDir: '/nix/store',
        roots: [{ name: 'lab', path: made.root }],
        peers: [],
        trackers: [],
      }),
    );
    const swarm = lab.use(
      await Swarm.listen({ host: '127.0.0.1', seeds: (infoHash) => Promise.resolve(seeds.get(infoHash)) }),
    );
    const server = lab.use(await startHttpCache(index.dir));
    const address = formatPublisherAddress({ publicKeyHex: Buffer.from(key.publicKey).toString('hex'), salt: '' });
    return ['--publisher', mirrorOf(address, server.url), '--peer', `127.0.0.1:${swarm.port}`, ...ALONE];
  };
  const honest = (info: NarInfo): Promise<Buffer> => readFile(join(made.cacheDir, info.url));

  test('peers that accept and never answer cost a moment; then everything comes from the upstream', async () => {
    const { address, sockets } = lab.use(await startSilentPeer());
    const lies = await publishLies(infos, honest);
    const withoutSeeder = lies.filter((_, index) => index !== 2 && index !== 3);
    const run = await fetch(['--no-copy', '--from', upstream.url, ...withoutSeeder, '--peer', address]);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('done')['bytes'], { total: totalBytes, store: 0, peers: 0, upstream: totalBytes });
    assert.ok(sockets.size > 0, 'the peer was asked');
    await assertSound(run.store, made.publicKey);
  });

  test('peers give the NARs that they have, and the upstream the rest', async () => {
    const some = await publishLies(
      infos.filter((info) => info === large),
      honest,
    );
    // An upstream that answers may get all NARs before a busy machine reaches the peer.
    const slow = lab.use(await startHttpCache(made.cacheDir));
    slow.faults = [{ match: new RegExp(large.url), kind: 'stall-headers' }];
    // By its name: then the map is there before any NAR is begun.
    const run = await fetch(['--no-copy', '--from', slow.url, ...some], { root: 'lab' });
    assert.equal(run.status, 0, run.stderr);
    const bytes = run.event('done')['bytes'] as { peers: number; upstream: number };
    assert.equal(run.event('plan')['torrents'], 1);
    assert.deepEqual([bytes.peers, bytes.upstream], [large.fileSize, totalBytes - (large.fileSize ?? 0)]);
    await assertSound(run.store, made.publicKey);
  });

  test('a hash map that names wrong bytes costs a retry, and they never reach the store', async () => {
    const wrong = async (info: NarInfo): Promise<Buffer> => {
      const bytes = await honest(info);
      return info === large ? Buffer.from(bytes.map((byte) => byte ^ 1)) : bytes;
    };
    const lies = await publishLies(infos, wrong);
    // It answers for one NAR alone, and only after the lie: it must not be quicker than the peer.
    const slow = lab.use(await startHttpCache(made.cacheDir));
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    slow.faults = [
      { match: new RegExp(large.url), kind: 'hold', until },
      { match: /\.nar\./, kind: 'stall-headers' },
    ];
    const store = await lab.folder('store');
    const what = ['--store', store, '--trusted-public-key', made.publicKey, '--no-copy', '--from', slow.url];
    // By its name: then the map is there before any NAR is begun.
    const fetching = lab.start(['fetch', 'lab', ...what, ...lies]);
    const lie = new RegExp(`${large.fileHash}.*the hash map names other bytes.*${large.storePath}`);
    await fetching.event('warning', ({ message }) => lie.test(String(message)));
    release();
    const run = await fetching.end();
    assert.equal(run.status, 0, run.stderr);
    assert.equal((run.event('done')['bytes'] as { upstream: number }).upstream, large.fileSize);
    assert.equal((await assertSound(store, made.publicKey)).nars.length, 6);

    const alone = await fetch(['--no-copy', '--no-upstream', ...lies]);
    assertFailure(alone, 5, 'NAR_UNAVAILABLE', new RegExp(`1 of 6 NARs.*${large.fileHash}.*names other bytes`));
    assert.equal((await assertSound(alone.store, made.publicKey)).nars.length, 5);
  });

  test('a wrong FileHash in the hash map is found by NarHash and corrected', async () => {
    const small = infos.find(({ storePath }) => storePath.endsWith('-lab-blob-2'));
    assert.ok(small !== undefined);
    const { url, fileHash, fileSize } = small;
    const lying = { ...large, url, ...(fileHash && { fileHash }), ...(fileSize && { fileSize }) };
    const lies = await publishLies(
      infos.map((info) => (info === large ? lying : info)),
      honest,
    );
    const to = `local?root=${await lab.folder('target')}`;
    // By its name: then the map is there before the first narinfo is asked for.
    const run = await fetch(['--to', to, '--from', upstream.url, ...lies], { root: 'lab' });
    assert.equal(run.status, 0, run.stderr);
    const warning = String(run.event('warning')['message']);
    assert.match(
      warning,
      new RegExp(`${large.storePath} with other contents.*; using the description by ${upstream.url} instead`),
    );
    assert.equal(requisites(to, made.root).length, 6);
    await assertSound(run.store, made.publicKey);
  });

  test('of two hash maps, the right record wins, without a cache', async () => {
    const garbage = Buffer.from('x'.repeat(large.fileSize ?? 0));
    const fileHash = fileHashOf(createHash('sha256').update(garbage).digest());
    const isLarge = ({ storePath }: NarInfo): boolean => storePath === large.storePath;
    const lies = [
      // pieces of other bytes under the right FileHash
      await publishLies(infos, async (info) => (isLarge(info) ? garbage : honest(info))),
      // another file altogether, which its own peer serves
      await publishLies(
        infos.map((info) => (isLarge(info) ? { ...info, fileHash, url: `nar/${fileHash}.nar.xz` } : info)),
        async (info) => (isLarge(info) ? garbage : honest(info)),
      ),
      // no file that can be believed
      await publishLies(
        infos.filter((info) => !isLarge(info)).concat({ ...large, ca: 'foo', compression: 'lz4' }),
        honest,
      ),
    ];
    const right = await publishLies(infos, honest, OTHER_KEY);
    await Promise.all(
      lies.map(async (lie) => {
        const to = `local?root=${await lab.folder('target')}`;
        const run = await fetch(['--to', to, '--no-upstream', ...lie, ...right], { root: 'lab' });
        assert.equal(run.status, 0, run.stdout + run.stderr);
        assert.equal(requisites(to, made.root).length, 6);
        await assertSound(run.store, made.publicKey);
      }),
    );
  });

  test('a NAR that was damaged on the disk is fetched again when the import finds it', async () => {
    const first = await fetch(['--no-copy', '--from', upstream.url]);
    const path = join(first.store, large.url);
    const [bytes, { atime, mtimeMs }] = await Promise.all([readFile(path), stat(path)]);
    await writeFile(
      path,
      bytes.map((byte, index) => (index === 700_000 ? byte ^ 1 : byte)),
    );
    await utimes(path, atime, (Math.floor(mtimeMs) + 0.5) / 1000); // bits rot without a trace
    const to = `local?root=${await lab.folder('target')}`;
    const run = await fetch(['--to', to, '--from', upstream.url], { store: first.store });
    assert.equal(run.status, 0, run.stderr);
    assert.match(String(run.event('warning')['message']), new RegExp(`${large.fileHash}.* was damaged`));
    assert.equal(requisites(to, made.root).length, 6);
    await assertSound(first.store, made.publicKey);
  });

  test('without peers and upstream, a fetch fails at once, or after the time that it was given', async () => {
    const nobody = await fetch(['--no-copy', '--no-upstream', ...ALONE]);
    assertFailure(
      nobody,
      3,
      'NARINFO_MISSING',
      new RegExp(`no neighbour, hash map or cache has a narinfo for ${made.root}:`),
    );

    const lies = await publishLies(infos, honest);
    const off = await fetch(['--no-copy', '--no-upstream', '--scope', 'off', ...lies.slice(0, 2)]);
    assertFailure(off, 5, 'NAR_UNAVAILABLE', /there is neither a cache nor a peer to ask/);

    const patient = ['--peer-timeout', '1d', '--publisher-timeout', '1d'];
    const alone = await fetch(['--no-copy', '--no-upstream', ...lies.slice(0, 2), ...ALONE, ...patient]);
    assertFailure(alone, 5, 'NAR_UNAVAILABLE', /there is neither a cache nor a peer to ask: name a cache with --from/);
    const unmirrored = lies[1]!.replace(/^http:\/\/[^/]+\//, 'magnet:');
    const unknown = await fetch(['--no-copy', '--no-upstream', '--publisher', unmirrored, ...ALONE, ...patient]);
    assertFailure(unknown, 6, 'INDEX_UNREACHABLE', /needs the DHT, which is off: give the address of its HTTP mirror/);

    const gone = await fetch([
      '--no-copy',
      '--no-upstream',
      ...lies.slice(0, 2),
      '--peer',
      '127.0.0.1:9',
      '--peer-timeout',
      '2s',
      ...ALONE,
    ]);
    assertFailure(gone, 5, 'NAR_UNAVAILABLE', /6 of 6 NARs could not be fetched: cannot fetch .*: no peer delivers it/);
    assert.ok(gone.durationMs > 2_000, `${gone.durationMs}`);
    assert.deepEqual(await assertSound(gone.store, made.publicKey), { narInfos: [], nars: [] });
  });

  test('a peer that is found late is used', async () => {
    const lies = await publishLies(infos, honest);
    const store = await lab.folder('store');
    await cp(made.cacheDir, store, { recursive: true });
    const what = ['--store', await lab.folder('store'), '--trusted-public-key', made.publicKey, '--no-copy'];
    const onLan = ['--listen', '127.0.0.1', '--no-dht', ...lies.slice(0, 2)];
    const waiting = lab.start(['fetch', made.root, ...what, '--no-upstream', ...onLan]);
    await waiting.event('plan');
    const key = ['--trusted-public-key', made.publicKey];
    const published = await lab.run(['publish', '--once', '--store', store, '--key', lab.path('key'), ...key]);
    assert.equal(published.status, 0, published.stderr);
    await lab.service(['daemon', '--store', store, ...key, ...onLan]);
    const run = await waiting.end();
    assert.equal(run.status, 0, run.stderr);
    assert.equal((run.event('done')['bytes'] as { peers: number }).peers, totalBytes);
  });
});
