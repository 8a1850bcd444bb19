/** Patches from the HTTP mirror of a publisher, for a follower that reaches no peer, and from peers beside it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildClosure, type MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type Fault, type HttpCache } from '../support/http-cache.ts';
import { startSilentPeer } from '../support/silent-peer.ts';
import { ALONE, assertSound, Lab, mirrorOf, requisites, type Run, type RunningPublisher } from '../support/lab.ts';

const BLOBS = [2_000_000, 300_000];
const NO_PEERS = [...ALONE, '--scope', 'off'];
const PATCH = /\.nar\.delta$/;

describe('patches of an HTTP mirror', () => {
  let lab: Lab;
  let first: MadeClosure;
  let second: MadeClosure;
  let publisher: RunningPublisher;
  /** A store with the first generation. */
  let old: string;
  /** A cache with all NARs, and without patches. */
  let cache: HttpCache;
  /** A static server with the files of the mirror. It has faults. */
  let front: HttpCache;
  let made: number;

  const oldStore = async (): Promise<string> => {
    const copy = await lab.folder('copy');
    await cp(old, copy, { recursive: true, preserveTimestamps: true });
    return copy;
  };
  /** Fetches the second generation into a store with the first one. */
  const fetch = async (mirror: string, args: readonly string[], store?: string): Promise<Run> => {
    const sources = ['--publisher', mirror, '--trusted-public-key', first.publicKey];
    const run = await lab.run(['fetch', 'lab', '--store', store ?? (await oldStore()), ...sources, ...args]);
    assert.equal(run.status, 0, run.stderr);
    return run;
  };
  const patchesOf = (run: Run): number => Number((run.event('done')['patches'] as Record<string, number>)['nars']);
  const bytesFrom = (run: Run, source: string): number => {
    const sources = run.event('done')['sources'] as { source: string; bytes: number }[];
    return sources.filter((one) => one.source === source).reduce((sum, { bytes }) => sum + bytes, 0);
  };
  const warningsOf = (run: Run): readonly Readonly<Record<string, unknown>>[] =>
    run.events.filter((event) => event.event === 'warning' && event['kind'] === 'wrong-patch');
  const asked = (): string[] => front.requests.map(({ url }) => url).filter((url) => PATCH.test(url));
  /** Fetches with a mirror that misbehaves, from no peer, and from a cache that has the NARs. */
  const fetchWith = async (...faults: Fault[]): Promise<Run> => {
    front.faults = faults;
    front.resetCounts();
    const store = await oldStore();
    const target = `local?root=${await lab.folder('target')}`;
    const args = [...NO_PEERS, '--from', cache.url, '--to', target];
    const run = await fetch(mirrorOf(publisher.address, front.url), args, store);
    assert.equal(requisites(target, second.root).length, 4);
    const verified = spawnSync('nix-store', ['--store', target, '--verify', '--check-contents'], { encoding: 'utf8' });
    assert.equal(verified.status, 0, verified.stderr);
    await assertSound(store, first.publicKey);
    return run;
  };

  before(async () => {
    lab = await Lab.open();
    first = await lab.closure(BLOBS);
    const own = ['--key', lab.path('key'), ...ALONE];
    const earlier = await lab.publisher(first, own);
    old = await lab.folder('store');
    await fetch(earlier.mirror, ['--peer', earlier.peer, '--no-upstream', '--no-copy', ...ALONE], old);
    await earlier.process.stop();
    for (const name of await readdir(join(dirname(first.cacheDir), 'blobs'))) {
      const blob = join(dirname(first.cacheDir), 'blobs', name);
      const bytes = await readFile(blob);
      await writeFile(blob, Buffer.concat([bytes.subarray(0, 100_000), Buffer.from('new'), bytes.subarray(100_000)]));
    }
    second = await buildClosure(dirname(first.cacheDir));
    const nars = await lab.folder('nars');
    await cp(second.cacheDir, nars, { recursive: true });
    cache = lab.use(await startHttpCache(nars));
    publisher = await lab.publisher(second, [...own, '--make-deltas']);
    made = Number(publisher.process.events.find(({ event }) => event === 'patched')?.['patches']);
    assert.ok(made > 1);
    const files = await lab.folder('mirror');
    const published = join(second.cacheDir, 'narswarm/published');
    const [salt = ''] = await readdir(published);
    await cp(join(published, salt), files, { recursive: true });
    await mkdir(join(files, 'nar'));
    for (const name of await readdir(join(second.cacheDir, 'nar')))
      if (PATCH.test(name)) await cp(join(second.cacheDir, 'nar', name), join(files, 'nar', name));
    front = lab.use(await startHttpCache(files));
  });
  after(() => lab[Symbol.asyncDispose]());

  test('a publisher gives patches over HTTP to a follower that reaches no peer', async () => {
    const target = `local?root=${await lab.folder('target')}`;
    const run = await fetch(publisher.mirror, [...NO_PEERS, '--from', cache.url, '--to', target]);
    assert.equal(patchesOf(run), made);
    const url = new URL(publisher.mirror).origin;
    assert.ok(bytesFrom(run, url) > 0 && bytesFrom(run, url) < 20_000, run.stdout);
    assert.ok(bytesFrom(run, cache.url) < 100_000, run.stdout);
    assert.deepEqual(warningsOf(run), []);
    assert.equal(requisites(target, second.root).length, 4);
  });

  test('a daemon that serves the hash map serves its patches, too', async () => {
    const store = await oldStore();
    await fetch(publisher.mirror, ['--peer', publisher.peer, '--no-upstream', '--no-copy', ...ALONE], store);
    const trust = ['--trusted-public-key', first.publicKey];
    const follows = ['--publisher', publisher.mirror, '--substituter-port', '0', '--http-port', '0'];
    const own = [
      'daemon',
      '--store',
      store,
      '--listen',
      '127.0.0.1',
      '--no-lan',
      '--dht-port',
      '0',
      '--scope',
      'cohort',
    ];
    const { process: daemon } = await lab.service([...own, ...follows, ...trust]);
    const mirror = String((await daemon.event('followed'))['mirror']);
    assert.match(mirror, /\/maps\//);
    const run = await fetch(mirror, [...NO_PEERS, '--no-copy', '--from', cache.url]);
    assert.equal(patchesOf(run), made);
    assert.ok(bytesFrom(run, mirror.slice(0, mirror.indexOf('/?'))) > 0, run.stdout);
    await daemon.stop();
  });

  test('so does any web server that has the files', async () => {
    const run = await fetchWith();
    assert.equal(patchesOf(run), made);
    assert.equal(new Set(asked()).size, made);
  });

  test('a mirror that cuts connections is asked for the rest', async () => {
    const run = await fetchWith({ match: PATCH, kind: 'cut', afterBytes: 50, times: 2 });
    assert.equal(patchesOf(run), made);
    assert.ok(front.requests.some(({ url, range }) => PATCH.test(url) && range?.startsWith('bytes=50-')));
    assert.deepEqual(warningsOf(run), []);
  });

  test('a mirror of an earlier version is asked once, and all NARs are fetched whole', async () => {
    const run = await fetchWith({ match: PATCH, kind: 'status', status: 404 });
    assert.equal(patchesOf(run), 0);
    assert.equal(asked().length, 1);
    assert.deepEqual(
      front.requests.filter(({ url }) => url.includes('narinfo')),
      [],
    );
    const [warning, ...others] = warningsOf(run);
    assert.deepEqual(others, []);
    assert.equal(warning?.['others'], made - 1);
  });

  test('a patch that the mirror alone lacks costs the others nothing', async () => {
    const found = (await readdir(join(second.cacheDir, 'nar'))).filter((name) => PATCH.test(name));
    assert.equal(found.length, made);
    const run = await fetchWith({ match: new RegExp(String(found[0])), kind: 'status', status: 404 });
    // It may have been the first to be asked for.
    if (patchesOf(run) > 0) assert.equal(patchesOf(run), made - 1);
    else assert.equal(asked().length, 1);
    assert.equal(warningsOf(run).length, 1);
  });

  test('of a mirror that sends other bytes, nothing is kept', async () => {
    const run = await fetchWith({ match: PATCH, kind: 'corrupt', afterBytes: 60 });
    assert.equal(patchesOf(run), 0);
    for (const url of asked()) assert.ok(asked().filter((other) => other === url).length <= 2, url);
  });

  test('a mirror that hangs is asked once, and the NARs are fetched whole', async () => {
    for (const kind of ['stall-headers', 'stall'] as const) {
      const run = await fetchWith({ match: PATCH, kind });
      assert.equal(patchesOf(run), 0);
      assert.equal(asked().length, 1);
      assert.match(run.stdout, /has sent nothing for 5 s/);
    }
  });

  describe('beside peers', () => {
    test('a peer gives the patches that the mirror does not have', async () => {
      front.faults = [{ match: PATCH, kind: 'status', status: 404 }];
      const mirror = mirrorOf(publisher.address, front.url);
      const run = await fetch(mirror, ['--peer', publisher.peer, '--no-copy', '--no-upstream', ...ALONE]);
      assert.equal(patchesOf(run), made);
      assert.ok(bytesFrom(run, publisher.peer) > 0, run.stdout);
    });

    test('the mirror gives the patches that no peer has', async () => {
      const cacheDir = await lab.folder('peer');
      await cp(second.cacheDir, cacheDir, { recursive: true, preserveTimestamps: true });
      for (const name of await readdir(join(cacheDir, 'nar')))
        if (PATCH.test(name)) await rm(join(cacheDir, 'nar', name));
      await rm(join(cacheDir, 'narswarm/patches.jsonl'));
      const other = await lab.publisher({ ...second, cacheDir }, ALONE);
      front.faults = [];
      const mirror = mirrorOf(publisher.address, front.url);
      const args = ['--publisher', other.address, '--peer', other.peer, '--no-upstream', '--no-copy', ...ALONE];
      await publisher.process.stop();
      const run = await fetch(mirror, args);
      assert.equal(patchesOf(run), made);
      assert.ok(bytesFrom(run, front.url) > 0, run.stdout);
      assert.ok(bytesFrom(run, other.peer) < 100_000, run.stdout);
      await other.process.stop();
    });

    test('peers that cannot be reached, or never say anything, cost no patch', async () => {
      await using silent = await startSilentPeer();
      front.faults = [];
      const mirror = mirrorOf(publisher.address, front.url);
      // The publisher has ended: nobody is at the port that the manifest names.
      const args = ['--peer', silent.address, '--from', cache.url, '--no-copy', ...ALONE];
      const run = await fetch(mirror, args);
      assert.ok(silent.sockets.size > 0);
      assert.equal(patchesOf(run), made);
      assert.ok(bytesFrom(run, cache.url) < 100_000, run.stdout);
    });
  });
});
