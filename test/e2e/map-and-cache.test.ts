/** Hash maps beside caches and stores: each gives what the other lacks, and nobody waits for an unneeded source. */
import assert from 'node:assert/strict';
import { cp, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { startHttpCache } from '../support/http-cache.ts';
import {
  ALONE,
  assertFailure,
  assertSound,
  Lab,
  narBytesOf,
  readNarInfos,
  requisites,
  type Run,
  type RunningPublisher,
} from '../support/lab.ts';

/** A key without a publisher. */
const DEAD = 'magnet:?xs=urn:btpk:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a';
/** Longer than any test lasts: who waits for a publisher fails. */
const PUBLISHER_TIMEOUT = '1h';

describe('hash maps and caches', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let publisher: RunningPublisher;
  let inDht: readonly string[];

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([200_000, 60_000]);
    publisher = await lab.publisher(made, ALONE);
    const [node] = (await lab.dht(3)).bootstrap;
    assert.ok(node !== undefined);
    inDht = ['--listen', '127.0.0.1', '--no-lan', '--dht-bootstrap', `${node.host}:${node.port}`];
  });
  after(() => lab[Symbol.asyncDispose]());

  const fetch = (root: string, store: string, args: readonly string[]): Promise<Run> =>
    lab.run(['fetch', root, '--store', store, '--trusted-public-key', made.publicKey, ...args]);
  const fromPeers = (): string[] => ['--publisher', publisher.mirror, '--peer', publisher.peer, ...ALONE];
  /** A copy of the cache, as somebody else might have filled a store. */
  const filled = async (): Promise<string> => {
    const dir = await lab.folder('filled');
    await cp(made.cacheDir, dir, { recursive: true });
    return dir;
  };
  const largest = async (): Promise<NarInfo> => {
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const [first] = infos.toSorted((a, b) => (b.fileSize ?? 0) - (a.fileSize ?? 0));
    assert.ok(first !== undefined);
    return first;
  };
  /** Flips a byte of a file that keeps its size and time of change. */
  const damage = async (path: string): Promise<void> => {
    const { mtimeMs } = await stat(path);
    const bytes = await readFile(path);
    bytes.writeUInt8(bytes.readUInt8(1000) ^ 0xff, 1000);
    await writeFile(path, bytes);
    const seconds = (Math.floor(mtimeMs) + 0.5) / 1000; // a Date would be rounded up to the next millisecond
    await utimes(path, seconds, seconds);
  };

  test('a path that only the hash map has is found even if a cache answers first', async () => {
    const empty = lab.use(await startHttpCache(await lab.folder('empty')));
    const store = await lab.folder('store');
    const run = await fetch(made.root, store, ['--from', empty.url, '--no-copy', ...fromPeers()]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal((await assertSound(store, made.publicKey)).nars.length, 4);
  });

  test('a silent publisher is not waited for if there is nothing to fetch, or the root is malformed', async () => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const publishers = ['--publisher', DEAD, '--publisher-timeout', PUBLISHER_TIMEOUT, ...inDht];
    const nonsense = await fetch('/nix/store/nonsense', await lab.folder('store'), publishers);
    assertFailure(nonsense, 2, 'STORE_PATH_INVALID', /nonsense/);
    const store = await filled();
    const all = await fetch(made.root, store, ['--from', cache.url, '--no-copy', ...publishers]);
    assert.deepEqual([all.status, all.stderr], [0, '']);
    const dry = await fetch(made.root, store, ['--no-upstream', '--no-copy', '--dry-run', ...publishers]);
    assert.deepEqual([dry.status, dry.event('plan')['inStore']], [0, 4]);
  });

  test('a root’s name is resolved as soon as its publisher answers', async () => {
    const publishers = [
      '--publisher',
      DEAD,
      '--publisher',
      publisher.mirror,
      '--publisher-timeout',
      PUBLISHER_TIMEOUT,
      ...inDht,
    ];
    const run = await fetch('lab', await filled(), ['--no-upstream', '--no-copy', ...publishers]);
    assert.equal(run.status, 0, run.stderr);
  });

  test('a root’s name whose publisher cannot be reached is reported once', async () => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const gone = publisher.address.replace(/^magnet:/, 'http://127.0.0.1:1/');
    const run = await fetch('lab', await lab.folder('store'), ['--from', cache.url, '--publisher', gone, ...ALONE]);
    assertFailure(run, 6, 'INDEX_UNREACHABLE', /ECONNREFUSED/);
    assert.deepEqual(
      run.events.filter(({ event }) => event === 'warning'),
      [],
    );
  });

  test('a store that nix copy filled is used without a source and read once; a zeroed NAR is fetched again', async () => {
    const store = await filled();
    const alone = ['--no-upstream', '--no-copy', '--scope', 'off'];
    const run = await fetch(made.root, store, alone);
    assert.equal(run.status, 0, run.stderr);
    assert.equal((run.event('done')['bytes'] as { store: number }).store, await narBytesOf(made.cacheDir));
    const nar = join(store, (await largest()).url);
    await damage(nar);
    assert.equal((await fetch(made.root, store, alone)).status, 0, 'it was read a second time');

    const torn = await filled(); // a narinfo and a NAR of the right size, which never reached the disk
    const info = await largest();
    await writeFile(join(torn, info.url), Buffer.alloc(info.fileSize ?? 0));
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const mended = await fetch(made.root, torn, ['--from', cache.url, '--no-copy', '--scope', 'off']);
    assert.equal(mended.status, 0, mended.stderr);
    assert.equal((mended.event('done')['bytes'] as { upstream: number }).upstream, info.fileSize);
    await assertSound(torn, made.publicKey);
  });

  test('a NAR that was damaged after its check is fetched again from peers, without a cache', async () => {
    const store = await lab.folder('store');
    const peers = ['--no-upstream', '--peer-timeout', '20s', ...fromPeers()];
    const first = await fetch(made.root, store, ['--no-copy', ...peers]);
    assert.equal(first.status, 0, first.stderr);
    const info = await largest();
    await damage(join(store, info.url));
    const to = `local?root=${await lab.folder('target')}`;
    const run = await fetch(made.root, store, ['--to', to, ...peers]);
    assert.equal(run.status, 0, run.stderr);
    assert.match(String(run.event('warning')['message']), new RegExp(`damaged; fetching ${info.storePath} again`));
    assert.equal(requisites(to, made.root).length, 4);
    await assertSound(store, made.publicKey);
  });
});
