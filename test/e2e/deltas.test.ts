/** Patches between two editions: made by a publisher, used and passed on by its followers, imported by the real Nix. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { cp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { execa } from 'execa';
import { PATCH_EXTENSION } from '../../src/delta/record.ts';
import { buildClosure, type MadeClosure } from '../../src/demo/closure.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { baseNameOf } from '../../src/nix/store-path.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { hashNar } from '../../src/store/hashing/hash-nar.ts';
import { PatchList } from '../../src/store/patch-list.ts';
import { narTorrent } from '../../src/torrent/canonical.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, readNarInfos, requisites, type Run, type RunningPublisher } from '../support/lab.ts';
import { Machine, updated } from '../support/update-lab.ts';

const BLOBS = [2_000_000, 300_000];
/** Paths of each generation. */
const PATHS = 4;

describe('deltas', () => {
  let lab: Lab;
  let first: MadeClosure;
  let second: MadeClosure;
  let key: string;
  let publisher: RunningPublisher;
  /** A store with the first generation. */
  let old: string;

  const publish = (made: MadeClosure, ...args: readonly string[]): Promise<RunningPublisher> =>
    lab.publisher(made, [...ALONE, '--key', key, ...args]);
  const copyOf = async (dir: string): Promise<string> => {
    const copy = await lab.folder('copy');
    await cp(dir, copy, { recursive: true, preserveTimestamps: true });
    return copy;
  };
  const fetch = async (into: string, from: RunningPublisher, ...args: readonly string[]): Promise<Run> => {
    const sources = ['--publisher', from.mirror, '--peer', from.peer, '--no-upstream', ...ALONE];
    const trust = ['--trusted-public-key', first.publicKey];
    const run = await lab.run(['fetch', 'lab', '--store', into, ...sources, ...trust, ...args]);
    assert.equal(run.status, 0, run.stderr);
    return run;
  };
  const patchesOf = (run: Run): Record<string, number> => run.event('done')['patches'] as Record<string, number>;
  const peerBytesOf = (run: Run): number => Number((run.event('done')['bytes'] as Record<string, number>)['peers']);
  const made = (): number =>
    Number(publisher.process.events.find(({ event }) => event === 'patched')?.['patches'] ?? Number.NaN);
  const assertValid = (target: string): void => {
    assert.equal(requisites(target, second.root).length, PATHS);
    const verified = spawnSync('nix-store', ['--store', target, '--verify', '--check-contents'], { encoding: 'utf8' });
    assert.equal(verified.status, 0, verified.stderr);
  };

  before(async () => {
    lab = await Lab.open();
    first = await lab.closure(BLOBS);
    key = lab.path('key');
    const earlier = await publish(first);
    old = await lab.folder('store');
    await fetch(old, earlier, '--no-copy');
    await earlier.process.stop();
    const blob = join(dirname(first.cacheDir), 'blobs/blob-0');
    const bytes = await readFile(blob);
    await writeFile(blob, Buffer.concat([bytes.subarray(0, 1_000_000), Buffer.from('new'), bytes.subarray(1_000_000)]));
    second = await buildClosure(dirname(first.cacheDir));
    publisher = await publish(second, '--make-deltas');
  });
  after(() => lab[Symbol.asyncDispose]());

  test('followers take patches instead of NARs, and Nix imports what they give', async () => {
    assert.ok(made() > 0);
    const [store, target] = [await copyOf(old), `local?root=${await lab.folder('target')}`];
    const run = await fetch(store, publisher, '--to', target);
    assert.ok(peerBytesOf(run) < 400_000, String(peerBytesOf(run)));
    assert.equal(patchesOf(run)['nars'], made());
    assert.ok(Number(patchesOf(run)['patchBytes']) < 5_000 && Number(patchesOf(run)['fileBytes']) > 2_000_000);
    assertValid(target);
    const { nars } = await assertSound(store, first.publicKey);
    assert.equal(nars.filter((name) => name.endsWith('.nar.delta')).length, made());
    assert.deepEqual(patchesOf(await fetch(store, publisher, '--to', target))['nars'], 0);
  });

  test('a base is also taken from the Nix store, without the file store', async () => {
    const target = `local?root=${await lab.folder('target')}`;
    await lab.run([
      'fetch',
      first.root,
      '--store',
      await copyOf(old),
      '--to',
      target,
      '--from',
      first.cacheDir,
      ...ALONE,
      '--trusted-public-key',
      first.publicKey,
    ]);
    assert.equal(requisites(target, first.root).length, PATHS);
    const run = await fetch(await lab.folder('store'), publisher, '--to', target);
    assert.equal(patchesOf(run)['nars'], made());
    assertValid(target);
  });

  test('a disk that gets full while a patch is applied ends the fetch, leaves nothing, and the next run continues', async () => {
    const store = await lab.folder('full');
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=3500k', 'tmpfs', store]);
    try {
      await cp(old, store, { recursive: true, preserveTimestamps: true });
      const held = await readdir(join(store, 'nar'));
      const sources = ['--publisher', publisher.mirror, '--peer', publisher.peer, '--no-upstream', ...ALONE];
      const args = ['fetch', 'lab', '--store', store, '--no-copy', ...sources, '--trusted-public-key', first.publicKey];
      const run = await lab.run(args);
      assert.equal(run.status, 7, run.stderr);
      assert.equal(run.event('error')['code'], 'STORE_FULL');
      const { nars } = await assertSound(store, first.publicKey);
      for (const name of nars.filter((one) => !held.includes(one)))
        assert.ok((await stat(join(store, 'nar', name))).size < 1_000_000, `${name}: a part of the NAR was left`);
      const left = await readdir(join(store, 'narswarm'), { recursive: true });
      assert.deepEqual(
        left.filter((name) => name.endsWith('.made')),
        [],
      );
      await execa('mount', ['-o', 'remount,size=16m', store]);
      const again = await lab.run(args);
      assert.equal(again.status, 0, again.stderr);
      assert.equal(patchesOf(again)['nars'], made());
      await assertSound(store, first.publicKey);
    } finally {
      await execa('umount', [store]);
    }
  });

  test('a cache that has all NARs, too, gives only those without a patch', async () => {
    const cache = lab.use(await startHttpCache(second.cacheDir));
    const sources = ['--publisher', publisher.mirror, '--peer', publisher.peer, '--from', cache.url, ...ALONE];
    const trust = ['--trusted-public-key', first.publicKey, '--no-copy'];
    const run = await lab.run(['fetch', 'lab', '--store', await copyOf(old), ...sources, ...trust]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(patchesOf(run)['nars'], made());
    const { upstream, peers } = run.event('done')['bytes'] as Record<string, number>;
    assert.ok(Number(upstream) + Number(peers) < 400_000, run.stdout);
  });

  test('an update fetches no small NAR whole that a patch makes', async () => {
    const blobs = [300_000, 200_000];
    const base = await lab.closure(blobs, 'small');
    const cache = lab.use(await startHttpCache(base.cacheDir));
    const own = ['--key', lab.path('small-key'), ...ALONE];
    const earlier = await lab.publisher(base, own);
    const list = lab.path('list');
    await writeFile(list, base.root);
    const from = ['--from', cache.url, '--publisher', earlier.mirror, '--peer', earlier.peer];
    const trust = ['--trusted-public-key', base.publicKey];
    const machine = await Machine.of(lab, { desktop: { source: list } }, [...from, ...trust]);
    assert.equal((await machine.update()).status, 0);
    await earlier.process.stop();
    const blob = join(dirname(base.cacheDir), 'blobs/blob-0');
    await writeFile(blob, Buffer.concat([Buffer.from('new'), await readFile(blob)]));
    const next = await buildClosure(dirname(base.cacheDir));
    await writeFile(list, next.root);
    const later = await lab.publisher(next, [...own, '--make-deltas']);
    cache.resetCounts();
    const run = await machine.update(['--publisher', later.mirror, '--peer', later.peer]);
    assert.equal(run.status, 0, run.stderr);
    const { upstream, peers } = updated(run)['bytes'] as Record<string, number>;
    assert.ok(Number(upstream) + Number(peers) < 100_000, run.stdout);
    await later.process.stop();
  });

  test('people read what patches save, and --no-deltas and a dry run take none', async () => {
    const store = await copyOf(old);
    const args = ['--publisher', publisher.mirror, '--peer', publisher.peer, '--no-upstream', ...ALONE, '--no-copy'];
    const trust = ['--trusted-public-key', first.publicKey];
    const dry = await lab.runPlain(['fetch', 'lab', '--store', store, ...args, ...trust, '--dry-run']);
    assert.match(dry.stdout, /, \d.* of patches instead of 2\.0\d MB\)/);
    const whole = await fetch(await copyOf(old), publisher, '--no-copy', '--no-deltas');
    assert.equal(patchesOf(whole)['nars'], 0);
    assert.ok(peerBytesOf(whole) > 2_000_000);
    const run = await lab.runPlain(['fetch', 'lab', '--store', store, ...args, ...trust]);
    assert.match(run.stdout, /, \d.* of patches instead of 2\.0\d MB/);
  });

  test('a publisher makes patches once, and tells before what it would make', async () => {
    const store = await copyOf(second.cacheDir);
    await rm(join(store, 'narswarm/patches.jsonl'));
    const what = ['publish', '--store', store, '--root', `lab=${second.root}`, '--trusted-public-key', first.publicKey];
    const args = [...what, '--key', key, '--make-deltas'];
    const plan = await lab.run([...args, '--dry-run']);
    assert.ok(Number(plan.event('plan')['patches']) >= made(), plan.stdout + plan.stderr);
    const run = await lab.run([...args, '--once']);
    assert.equal(run.event('patched')['patches'], made());
    const again = await lab.run([...args, '--once']);
    assert.deepEqual([again.event('patched')['patches'], again.event('patched')['vain']], [0, 0]);
    assert.equal(again.event('built')['isNew'], false);
  });

  test('a follower that used patches gives them on', async () => {
    const [store, late] = [await copyOf(old), await copyOf(old)];
    await fetch(store, publisher, '--no-copy');
    const cacheDir = await copyOf(second.cacheDir);
    const silent = await lab.publisher({ ...second, cacheDir }, [...ALONE, '--key', key]);
    // Its hash map still names them.
    for (const name of await readdir(join(cacheDir, 'nar')))
      if (name.endsWith('.delta')) await rm(join(cacheDir, 'nar', name));
    const trust = ['--trusted-public-key', first.publicKey];
    const alone = ['--listen', '127.0.0.1', '--no-lan', '--dht-port', '0', '--substituter-port', '0'];
    const { process: daemon, ready } = await lab.service([
      'daemon',
      '--store',
      store,
      '--publisher',
      silent.mirror,
      '--scope',
      'cohort',
      ...trust,
      ...alone,
    ]);
    const peer = `127.0.0.1:${String(ready['port'])}`;
    const run = await fetch(late, { ...silent, peer }, '--no-copy');
    assert.equal(patchesOf(run)['nars'], made());
    const sources = run.event('done')['sources'] as { source: string; bytes: number }[];
    assert.ok(
      sources.some(({ source }) => source === peer),
      JSON.stringify(sources),
    );
    await daemon.stop();
    await silent.process.stop();
  });

  describe('wrong patches', () => {
    /** Publishes the second generation with this patch of its large NAR, and fetches it with the first one at hand. */
    const fetchWith = async (patchOf: (base: Buffer, info: NarInfo) => Buffer, removes = false): Promise<Run> => {
      const cacheDir = await copyOf(second.cacheDir);
      const large = (infos: Iterable<NarInfo>, root: MadeClosure): NarInfo => {
        const own = new Set(requisites(`local?root=${root.buildStore}`, root.root));
        const found = [...infos].find(({ storePath, narSize }) => own.has(storePath) && narSize > 1_500_000);
        assert.ok(found !== undefined);
        return found;
      };
      const infos = [...(await readNarInfos(cacheDir)).values()];
      const [base, info] = [
        large(infos, first),
        large(
          infos.filter(
            ({ storePath }) => !requisites(`local?root=${first.buildStore}`, first.root).includes(storePath),
          ),
          second,
        ),
      ];
      const nar = spawnSync('xz', ['-dc', join(cacheDir, base.url)], { maxBuffer: Infinity }).stdout;
      const patch = patchOf(nar, info);
      const store = await FileStore.open(cacheDir, { create: false });
      await rm(join(cacheDir, 'narswarm/patches.jsonl'));
      const list = new PatchList(store);
      const path = lab.path('patch');
      await writeFile(path, patch);
      const torrent = narTorrent({ ...(await hashNar(path))!, extension: PATCH_EXTENSION });
      assert.equal(torrent.fileHash, fileHashOf(createHash('sha256').update(patch).digest()));
      const { storePath, narHash } = info;
      const about = { baseName: baseNameOf(base.storePath), baseNarHash: base.narHash, baseNarSize: base.narSize };
      const kept = { storePath, narHash, ...about, torrent };
      await writeFile(list.pathOf(kept), patch);
      await list.add(kept);
      const hostile = await lab.publisher({ ...second, cacheDir }, [...ALONE, '--key', key]);
      if (removes) await rm(list.pathOf(kept));
      const [into, target] = [await copyOf(old), `local?root=${await lab.folder('target')}`];
      const run = await fetch(into, hostile, '--to', target);
      await hostile.process.stop();
      assertValid(target);
      assert.equal(patchesOf(run)['nars'], 0);
      const warned = run.events.filter((event) => event.event === 'warning' && event['kind'] === 'wrong-patch');
      assert.equal(warned.length, 1, run.stdout);
      assert.deepEqual(
        (await readdir(join(into, 'narswarm/partial')).catch(() => [])).flatMap((name) => name),
        [],
        'nothing is left of it',
      );
      return run;
    };

    test('a bomb', async () => {
      const run = await fetchWith(() => zstdCompressSync(Buffer.alloc(300_000_000)));
      assert.match(run.stdout, /more bytes than its part/);
    });

    test('one that gives other contents of the same size', async () => {
      await fetchWith((base, { narSize }) => {
        const other = Buffer.concat([base, randomBytes(1000)]).subarray(0, narSize);
        return zstdCompressSync(other, { dictionary: base, params: {} });
      });
    });

    test('one of noise', async () => {
      await fetchWith(() => randomBytes(5000));
    });

    test('one that nobody has', async () => {
      await fetchWith((base) => zstdCompressSync(base, { dictionary: base }), true);
    });
  });
});
