/** A fetch from HTTP caches only, which misbehave in every known way. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { startHttpCache, type Fault, type HttpCache } from '../support/http-cache.ts';
import { startHttpProxy, startSocksProxy } from '../support/proxies.ts';
import { assertFailure, assertSound, Lab, narBytesOf, readNarInfos, requisites, type Run } from '../support/lab.ts';

/** The tests wait more than they work. */
describe('upstreams alone', { concurrency: 6 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let totalBytes: number;
  /** The largest NAR: above 1 MiB, so that it goes through a partial file. */
  let large: NarInfo;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_500_000, 60_000, 5_000]);
    totalBytes = await narBytesOf(made.cacheDir);
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const [first] = infos.toSorted((a, b) => (b.fileSize ?? 0) - (a.fileSize ?? 0));
    assert.ok(first !== undefined);
    large = first;
  });
  after(() => lab[Symbol.asyncDispose]());

  const cacheWith = async (...faults: Fault[]): Promise<HttpCache> => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    cache.faults = faults;
    return cache;
  };
  const fetchFrom = (store: string, caches: readonly { url: string }[], ...args: string[]): Promise<Run> => {
    const what = ['--store', store, '--no-copy', '--trusted-public-key', made.publicKey];
    return lab.run(['fetch', made.root, ...what, ...caches.flatMap(({ url }) => ['--from', url]), ...args]);
  };
  /** A copy of the cache in which one narinfo was changed. */
  const altered = async (change: (info: NarInfo) => NarInfo): Promise<string> => {
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true });
    const hash = large.storePath.slice('/nix/store/'.length).slice(0, 32);
    await writeFile(join(dir, `${hash}.narinfo`), formatNarInfo(change(large)));
    return dir;
  };
  const succeeds = (run: Run, store: string): Promise<unknown> => {
    assert.equal(run.status, 0, `${run.stdout}${run.stderr}`);
    assert.equal(run.stderr, '');
    return assertSound(store, made.publicKey);
  };

  test('a link such as ./result stands for its target', async () => {
    const store = await lab.folder('store');
    const cwd = await lab.folder('project');
    await symlink(made.root, join(cwd, 'result'));
    const { url } = await cacheWith();
    const what = ['--store', store, '--no-copy', '--trusted-public-key', made.publicKey, '--from', url];
    const run = await lab.run(['fetch', './result', ...what], { cwd });
    await succeeds(run, store);
    assert.deepEqual(run.event('done')['roots'], [made.root]);
    const none = await lab.run(['fetch', './nothing', ...what], { cwd });
    assertFailure(none, 3, 'NOT_FOUND', /"\.\/nothing" does not lead to a store path/);
  });

  test('says that it does not ask a given peer, if neither a publisher nor a shared key leads to it', async () => {
    const caches = [await cacheWith()];
    for (const [flag, wayOut] of [
      ['--lan', 'a trusted key in --share-keys'],
      ['--no-lan', 'no --no-lan'],
    ] as const) {
      const run = await fetchFrom(await lab.folder('store'), caches, '--peer', '127.0.0.1:9', flag);
      assert.equal(run.status, 0, run.stderr);
      assert.match(String(run.event('warning')['message']), new RegExp(`^--peer is not asked: .*, or ${wayOut}$`));
    }
  });

  test('downloads the closure and imports it', async () => {
    const store = await lab.folder('store');
    const to = `local?root=${await lab.folder('target')}`;
    const cache = await cacheWith();
    const what = ['--from', cache.url, '--to', to, '--trusted-public-key', made.publicKey];
    const run = await lab.run(['fetch', made.root, '--store', store, ...what]);
    await succeeds(run, store);
    assert.deepEqual(run.event('done')['bytes'], { total: totalBytes, store: 0, peers: 0, upstream: totalBytes });
    assert.deepEqual(run.event('done')['sources'], [{ source: cache.url, kind: 'upstream', bytes: totalBytes }]);
    assert.equal(requisites(to, made.root).length, 6);
    const urls = cache.requests.map(({ url }) => url);
    assert.equal(new Set(urls).size, urls.length, 'one request a path and one a NAR');
  });

  for (const { kind, start } of [
    { kind: 'HTTP', start: startHttpProxy },
    { kind: 'SOCKS5', start: startSocksProxy },
  ])
    test(`through a proxy of ${kind}, all comes in silence`, async () => {
      const store = await lab.folder('store');
      const cache = await cacheWith();
      const proxy = lab.use(await start());
      const what = ['--store', store, '--no-copy', '--trusted-public-key', made.publicKey, '--from', cache.url];
      await succeeds(await lab.run(['fetch', made.root, ...what], { env: { ALL_PROXY: proxy.url } }), store);
      assert.equal(cache.bytesSent() > totalBytes, true);
      assert.ok(proxy.targets.length > 0);
      const person = { env: { ALL_PROXY: proxy.url } };
      const { stderr } = await lab.runPlain(
        ['fetch', made.root, ...what, '--store', await lab.folder('other')],
        person,
      );
      assert.doesNotMatch(stderr, /warning/i);
    });

  test('passwords in the address of a cache are used and never shown', async () => {
    const cache = await cacheWith({ kind: 'corrupt', match: new RegExp(large.url), afterBytes: 1000, times: 1 });
    const secret = { url: cache.url.replace('//', '//user:hush@') };
    const store = await lab.folder('store');
    const run = await fetchFrom(store, [secret]);
    await succeeds(run, store);
    assert.doesNotMatch(run.stdout, /hush/);
    assert.ok(run.events.some(({ event }) => event === 'warning'));
  });

  test('takes caches and keys from the configuration of Nix if none are given', async () => {
    const store = await lab.folder('store');
    const cache = await cacheWith();
    const NIX_CONFIG = `substituters = ${cache.url} s3://nowhere\ntrusted-public-keys = ${made.publicKey}`;
    const run = await lab.run(['fetch', made.root, '--store', store, '--no-copy'], { env: { NIX_CONFIG } });
    await succeeds(run, store);
    assert.match(
      String(run.event('warning')['message']),
      /^a substituter of nix\.conf is skipped: s3:\/\/nowhere .*address of the bucket/,
    );
  });

  test('continues after a cut body, even if the server answers 200 to a Range', async () => {
    const cut = { kind: 'cut', match: new RegExp(large.url), afterBytes: 700_000, times: 1 } as const;
    for (const faults of [[cut], [cut, { kind: 'ignore-range', match: /\/nar\// } as const]]) {
      const store = await lab.folder('store');
      const cache = await cacheWith(...faults);
      const run = await fetchFrom(store, [cache]);
      await succeeds(run, store);
      assert.equal((run.event('done')['bytes'] as { upstream: number }).upstream, totalBytes);
      const resumed = cache.requests.filter(({ range }) => range !== undefined);
      assert.deepEqual(
        resumed.map(({ status }) => status),
        [faults.length === 1 ? 206 : 200],
      );
    }
  });

  test('continues after a stall', async () => {
    const store = await lab.folder('store');
    const cache = await cacheWith({ kind: 'stall', match: new RegExp(large.url), afterBytes: 900_000, times: 1 });
    const run = await fetchFrom(store, [cache]);
    await succeeds(run, store);
    assert.ok(cache.bytesSent() < totalBytes + 100_000, 'what had come was kept');
  });

  test('tries again after 500 and 503', async () => {
    const store = await lab.folder('store');
    const cache = await cacheWith(
      { kind: 'status', status: 500, match: /\/nar\//, times: 2 },
      { kind: 'status', status: 503, match: /narinfo/, times: 1, retryAfter: '1' },
    );
    await succeeds(await fetchFrom(store, [cache]), store);
  });

  test('a NAR that the cache lacks ends the fetch and is named; the others are kept', async () => {
    const store = await lab.folder('store');
    const cache = await cacheWith({ kind: 'status', status: 404, match: new RegExp(large.url) });
    const run = await fetchFrom(store, [cache]);
    assertFailure(run, 5, 'NAR_UNAVAILABLE', new RegExp(`1 of 6 NARs .*${large.storePath}.*the others are kept`));
    const { nars, narInfos } = await assertSound(store, made.publicKey);
    assert.deepEqual([nars.length, narInfos.includes(large.storePath.slice(11))], [5, false]);
    cache.faults = [];
    cache.resetCounts();
    const again = await fetchFrom(store, [cache]);
    await succeeds(again, store);
    assert.equal((again.event('done')['bytes'] as { upstream: number }).upstream, large.fileSize);
  });

  test('a cache that always answers 500 ends the fetch and is named', async () => {
    const store = await lab.folder('store');
    const cache = await cacheWith({ kind: 'status', status: 500, match: /\/nar\// });
    const run = await fetchFrom(store, [cache]);
    assertFailure(run, 5, 'NAR_UNAVAILABLE', new RegExp(`6 of 6 NARs.*${cache.url}/nar/.*the server answered 500`));
    assert.deepEqual(await assertSound(store, made.publicKey), { narInfos: [], nars: [] });
  });

  test('the error for a missing narinfo names its referrer', async () => {
    const store = await lab.folder('store');
    const name = large.storePath.slice('/nix/store/'.length);
    const cache = await cacheWith({ kind: 'status', status: 404, match: new RegExp(name.slice(0, 32)) });
    const run = await fetchFrom(store, [cache]);
    assertFailure(run, 3, 'NARINFO_MISSING', new RegExp(`narinfo for ${name}, which /nix/store/.*-lab-0 refers to`));
  });

  test('wrong bytes never reach nar/, and the message says who sent them', async () => {
    const store = await lab.folder('store');
    const cache = await cacheWith({ kind: 'corrupt', match: new RegExp(large.url), afterBytes: 1000 });
    const run = await fetchFrom(store, [cache]);
    assertFailure(run, 5, 'NAR_UNAVAILABLE', new RegExp(`SHA-256 is .*bytes came from ${cache.url}`));
    assert.equal((await assertSound(store, made.publicKey)).nars.length, 5);
    cache.faults = [];
    await succeeds(await fetchFrom(store, [cache]), store);
  });

  test('a second cache gives NARs that the first one falsifies, cuts short or lacks', async () => {
    const lies: Fault[] = [
      { kind: 'corrupt', match: /\/nar\//, afterBytes: 5 },
      { kind: 'longer', match: /\/nar\// },
      { kind: 'shorter', match: /\/nar\// },
      { kind: 'status', status: 404, match: /\/nar\// },
      { kind: 'status', status: 404 },
    ];
    for (const lie of lies) {
      const store = await lab.folder('store');
      const bad = await cacheWith(lie);
      const good = await cacheWith();
      const run = await fetchFrom(store, [bad, good]);
      await succeeds(run, store);
      assert.ok(good.bytesSent() > 0, `${lie.kind}: the second cache was asked`);
    }
  });

  test('a truncated body is refused; if only FileSize is wrong, NarHash decides', async () => {
    for (const kind of ['longer', 'shorter'] as const) {
      const store = await lab.folder('store');
      const cache = await cacheWith({ kind, match: new RegExp(large.url), afterBytes: 0 });
      assertFailure(await fetchFrom(store, [cache]), 5, 'NAR_UNAVAILABLE', new RegExp(large.storePath));
      assert.equal((await assertSound(store, made.publicKey)).nars.length, 5);
    }
    for (const off of [1, -1]) {
      const store = await lab.folder('store');
      const dir = await altered((info) => ({ ...info, fileSize: (info.fileSize ?? 0) + off }));
      const cache = lab.use(await startHttpCache(dir));
      const run = await fetchFrom(store, [cache]);
      await succeeds(run, store);
      assert.match(String(run.event('warning')['message']), new RegExp(`it has ${large.fileSize} bytes, expected`));
    }
  });

  test('a cache that never answers ends the fetch and its address is named', async () => {
    const gone = await startHttpCache(made.cacheDir);
    await gone.stop();
    const store = await lab.folder('store');
    assertFailure(await fetchFrom(store, [gone]), 5, 'HTTP_FAILED', new RegExp(`${gone.url}.*failed after 5 attempts`));
    await succeeds(await fetchFrom(store, [gone, await cacheWith()]), store);
  });

  test('a narinfo without FileHash and FileSize gets them after NarHash was checked', async () => {
    const store = await lab.folder('store');
    const dir = await altered(({ fileHash: _hash, fileSize: _size, ...info }) => info);
    const cache = lab.use(await startHttpCache(dir));
    await succeeds(await fetchFrom(store, [cache]), store);
    const slow = await fetchFrom(await lab.folder('store'), [cache], '--max-download-rate', '800kB/s');
    assert.ok(Number(slow.event('done')['durationMs']) >= (totalBytes / 800_000 - 1) * 1000, 'the rate holds here too');
    const kept = await readNarInfos(store);
    const info = kept.get(large.storePath.slice('/nix/store/'.length).slice(0, 32));
    assert.deepEqual([info?.fileHash, info?.fileSize], [large.fileHash, large.fileSize]);

    const other = await lab.folder('store');
    cache.faults = [{ kind: 'corrupt', match: new RegExp(large.url), afterBytes: 1000 }];
    const run = await fetchFrom(other, [cache]);
    assertFailure(run, 5, 'NAR_UNAVAILABLE', new RegExp(`${cache.url} sent a NAR of ${large.storePath} with other`));
    const { nars, narInfos } = await assertSound(other, made.publicKey);
    assert.deepEqual([nars.length, narInfos.includes(large.storePath.slice(11))], [5, false], 'the others are kept');
  });

  test('a NAR that fails NarHash at the import is fetched again from the cache that has it right', async () => {
    // The first cache's narinfo has the FileHash of other bytes, which it sends: only NarHash tells.
    const small = [...(await readNarInfos(made.cacheDir)).values()].find(({ storePath }) =>
      storePath.endsWith('-lab-blob-2'),
    );
    assert.ok(small !== undefined);
    const { url, fileHash, fileSize } = small;
    const dir = await altered((info) => ({
      ...info,
      url,
      ...(fileHash && { fileHash }),
      ...(fileSize && { fileSize }),
    }));
    const lying = lab.use(await startHttpCache(dir));
    const good = await cacheWith();
    const store = await lab.folder('store');
    const to = `local?root=${await lab.folder('target')}`;
    const what = ['--from', lying.url, '--from', good.url, '--to', to, '--trusted-public-key', made.publicKey];
    const run = await lab.run(['fetch', made.root, '--store', store, ...what]);
    assert.equal(run.status, 0, run.stderr);
    assert.match(String(run.event('warning')['message']), new RegExp(`${large.storePath}.*${lying.url}`));
    assert.equal(requisites(to, made.root).length, 6);
    await assertSound(store, made.publicKey);

    const alone = ['--from', lying.url, '--to', `local?root=${await lab.folder('target')}`];
    const other = await lab.folder('store');
    const what2 = [...alone, '--trusted-public-key', made.publicKey];
    const failed = await lab.run(['fetch', made.root, '--store', other, ...what2]);
    const why = `${large.storePath} does not have the signed contents; its narinfo came from ${lying.url}`;
    assertFailure(failed, 5, 'NAR_UNAVAILABLE', new RegExp(why));
  });

  describe('a NAR that Nix refuses in any words is fetched again from the cache that has it right', () => {
    const xz = (bytes: Uint8Array): Buffer => execFileSync('xz', ['-c'], { input: bytes, maxBuffer: 10e6 });
    const nar = (): Buffer => execFileSync('xz', ['-dc', join(made.cacheDir, large.url)], { maxBuffer: 10e6 });
    const contents: readonly (readonly [name: string, make: () => Buffer])[] = [
      ['xz of what is no NAR', () => xz(Buffer.from('no archive at all'))],
      ['what is not compressed', () => Buffer.from('x'.repeat(500))],
      ['a NAR that is cut short', () => xz(nar().subarray(0, -16))],
    ];
    for (const [name, make] of contents) {
      test(name, async () => {
        const bytes = make();
        const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
        const url = `nar/${fileHash}.nar.xz`;
        const dir = await altered((info) => ({ ...info, url, fileHash, fileSize: bytes.length }));
        await writeFile(join(dir, url), bytes);
        const lying = lab.use(await startHttpCache(dir));
        const store = await lab.folder('store');
        const importFrom = async (caches: readonly { url: string }[], to: string): Promise<Run> => {
          const what = ['--store', store, '--to', to, '--trusted-public-key', made.publicKey];
          return lab.run(['fetch', made.root, ...what, ...caches.flatMap((cache) => ['--from', cache.url])]);
        };
        const alone = await importFrom([lying], `local?root=${await lab.folder('target')}`);
        assert.equal(alone.status, 8, alone.stderr);
        assert.match(
          alone.stderr,
          new RegExp(`the NAR of ${large.storePath} does not have the signed contents.*from ${lying.url}`),
        );

        const to = `local?root=${await lab.folder('target')}`;
        const run = await importFrom([lying, await cacheWith()], to); // the bad one is in the store already
        assert.equal(run.status, 0, run.stderr);
        assert.match(
          String(run.event('warning')['message']),
          new RegExp(`${large.storePath} does not have the signed contents`),
        );
        assert.equal(requisites(to, made.root).length, 6);
        await assertSound(store, made.publicKey);
      });
    }
  });

  test('two imports of the same paths into one target at once both succeed', async () => {
    const { url } = await cacheWith();
    const store = await lab.folder('store');
    const to = `local?root=${await lab.folder('target')}`;
    const what = ['--store', store, '--to', to, '--trusted-public-key', made.publicKey, '--from', url];
    const runs = await Promise.all([0, 1, 2].map(() => lab.run(['fetch', made.root, ...what])));
    for (const run of runs) assert.equal(run.status, 0, run.stderr);
    assert.equal(requisites(to, made.root).length, 6);
  });

  test('a cache that always stalls after some bytes gives way to the next', async () => {
    const store = await lab.folder('store');
    const stalling = await cacheWith({ kind: 'stall', match: /^\/nar\//, afterBytes: 2_000 });
    const run = await fetchFrom(store, [stalling, await cacheWith()]);
    assert.equal(run.status, 0, run.stderr);
    const asked = stalling.requests.filter((request) => request.url === `/${large.url}`);
    assert.equal(asked.length, 1, 'it is not waited for again');
    await assertSound(store, made.publicKey);
  });

  test('leaves no partial file behind if all is there', async () => {
    const store = await lab.folder('store');
    await succeeds(await fetchFrom(store, [await cacheWith()]), store);
    assert.deepEqual(await readdir(join(store, 'narswarm', 'partial')), []);
    const info = await readFile(join(store, 'nix-cache-info'), 'utf8');
    assert.match(info, /^StoreDir: \/nix\/store\n/);
  });
});
