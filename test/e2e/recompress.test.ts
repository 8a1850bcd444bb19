/** `publish --recompress` makes zstd files of a cache; members and caches with the xz files go on. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { Machine } from '../support/machine.ts';
import {
  ALONE,
  assertFailure,
  assertSound,
  Lab,
  narBytesOf,
  readNarInfos,
  requisites,
  type CliEvent,
  type Run,
} from '../support/lab.ts';
import { inNamespace } from '../support/namespace.ts';

/** Paths of the closure. */
const PATHS = 6;
const isZstd = (name: string): boolean => name.endsWith('.nar.zst');

describe('publish --recompress', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let key: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_200_000, 60_000, 5_000]);
    key = lab.path('key');
    assert.equal((await lab.run(['key', '--file', key])).status, 0);
  });
  after(() => lab[Symbol.asyncDispose]());

  const copyOfCache = async (): Promise<string> => {
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true, preserveTimestamps: true });
    return dir;
  };
  const publishing = (store: string): string[] => {
    return ['publish', '--store', store, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
  };
  const recompressing = (store: string): string[] => {
    return [...publishing(store), '--once', '--key', key, '--recompress', 'zstd'];
  };
  const once = (store: string, args: readonly string[] = [], options = {}): Promise<Run> =>
    lab.run([...recompressing(store), ...args], options);
  const recompressed = async (store: string, args: readonly string[] = []): Promise<CliEvent> => {
    const run = await once(store, args);
    assert.equal(run.status, 0, run.stderr);
    return run.event('recompressed');
  };
  const fetch = async (store: string, ...args: readonly string[]): Promise<Run> => {
    const trust = ['--trusted-public-key', made.publicKey];
    const run = await lab.run(['fetch', made.root, '--store', store, ...trust, ...ALONE, ...args]);
    assert.equal(run.status, 0, run.stderr);
    return run;
  };
  /** Fetches the closure into a new store. */
  const follow = async (...args: readonly string[]): Promise<{ readonly store: string; readonly run: Run }> => {
    const store = await lab.folder('follower');
    return { store, run: await fetch(store, ...args) };
  };
  const received = (run: Run): Record<string, number> => run.event('done')['bytes'] as Record<string, number>;

  test('the real Nix imports the zstd files, from the folder and over HTTP, and again is nothing to do', async () => {
    const store = await copyOfCache();
    const xz = await readNarInfos(store);
    assert.equal((await recompressed(store))['nars'], PATHS);
    const { nars } = await assertSound(store, made.publicKey);
    assert.deepEqual([nars.length, nars.every(isZstd)], [PATHS, true]);
    const infos = await readNarInfos(store);
    for (const [hash, { signatures }] of xz) assert.deepEqual(infos.get(hash)?.signatures, signatures);
    const served = lab.use(await startHttpCache(store));
    for (const from of [`file://${store}`, served.url]) {
      const to = `local?root=${await lab.folder('target')}`;
      const env = { ...lab.env, NIX_CONFIG: `trusted-public-keys = ${made.publicKey}\nsubstituters =` };
      const flags = ['--extra-experimental-features', 'nix-command'];
      await execa('nix', [...flags, 'copy', '--from', from, '--to', to, made.root], { env, extendEnv: false });
      assert.equal(requisites(to, made.root).length, PATHS);
    }
    assert.equal((await recompressed(store, ['--recompress', 'zstd:3']))['nars'], 0);
    assert.deepEqual(await readNarInfos(store), infos);
  });

  test('two publishers make the same files', async () => {
    const [one, other] = [await copyOfCache(), await copyOfCache()];
    await Promise.all([recompressed(one), recompressed(other)]);
    const [first, second] = await Promise.all([one, other].map((store) => readdir(join(store, 'nar'))));
    assert.deepEqual(first?.toSorted(), second?.toSorted());
  });

  test('people read what is done, and --dry-run counts without doing it', async () => {
    const store = await copyOfCache();
    const dry = await lab.runPlain([...publishing(store), '--recompress', 'zstd', '--dry-run']);
    assert.match(
      dry.stdout,
      /^6 NARs to compress again \(1\.27 MB before compression\): 1\.27 MB now, about 1\.27 MB as zstd; the disk holds both until they are published$/m,
    );
    const plan = (await lab.run([...publishing(store), '--recompress', 'zstd', '-n'])).event('plan');
    assert.deepEqual([plan['recompress'], plan['paths'], plan['fileBytes']], [PATHS, PATHS, await narBytesOf(store)]);
    assert.deepEqual(
      (await readdir(store)).toSorted(),
      (await readdir(made.cacheDir)).toSorted(),
      'nothing is written',
    );
    const run = await lab.runPlain(recompressing(store));
    assert.match(run.stderr, /^compressing 6 NARs again, 1\.27 MB before compression$/m);
    assert.match(run.stderr, /^6 NARs compressed again: 1\.27 MB before, 1\.27 MB now$/m);
    const none = await lab.runPlain([...publishing(store), '--recompress', 'zstd', '--dry-run']);
    assert.equal(none.stdout, 'nothing to compress: all NARs are zstd files\n');
  });

  for (const method of ['xz', 'zstd:0', 'zstd:20', 'zstd:9.5', ''])
    test(`--recompress ${JSON.stringify(method)} is refused in one sentence`, async () => {
      const run = await lab.run([...publishing(made.cacheDir), '--recompress', method]);
      assertFailure(run, 2, 'USAGE', /Allowed are zstd and zstd:1 to zstd:19$/m);
    });

  test('--dry-run alone is refused', async () => {
    const run = await lab.run([...publishing(made.cacheDir), '--dry-run']);
    assertFailure(run, 2, 'USAGE', /--dry-run tells what --recompress or --make-deltas would do: give one of them/);
  });

  test('members take the zstd files from the publisher, import them, and seed on; one with xz files keeps them', async () => {
    const store = await copyOfCache();
    const xz = await lab.service([...publishing(store), '--key', key, ...ALONE]);
    const mirror = String(xz.ready['mirror']);
    const { store: early } = await follow('--publisher', mirror, '--no-upstream', '--no-copy');

    // A run beside the publisher, which then offers the new edition.
    const beside = await once(store);
    assert.equal(beside.event('recompressed')['nars'], PATHS, beside.stderr);
    const { seq } = beside.event('built');
    await xz.process.event('built', (event) => event['seq'] === seq);

    const again = await fetch(early, '--publisher', mirror, '--no-upstream', '--no-copy');
    assert.deepEqual([received(again)['peers'], received(again)['upstream']], [0, 0], 'nothing is fetched twice');
    assert.equal((await assertSound(early, made.publicKey)).nars.some(isZstd), false);

    const to = `local?root=${await lab.folder('target')}`;
    const { store: late } = await follow('--to', to, '--publisher', mirror, '--no-upstream');
    assert.equal(requisites(to, made.root).length, PATHS);
    assert.ok((await assertSound(late, made.publicKey)).nars.every(isZstd));

    const cache = lab.use(await startHttpCache(made.cacheDir)); // has xz files
    const { store: mixed } = await follow('--publisher', mirror, '--from', cache.url, '--no-copy');
    assert.equal((await assertSound(mixed, made.publicKey)).narInfos.length, PATHS);

    const member = await lab.service([
      'daemon', '--store', late, '--publisher', mirror, '--trusted-public-key', made.publicKey, '--substituter-port', '0',
      ...ALONE,
    ]); // prettier-ignore
    const seeder = ['--peer', `127.0.0.1:${String(member.ready['port'])}`];
    const maps = join(late, 'narswarm', 'index');
    const third = await lab.folder('third');
    await cp(maps, join(third, 'narswarm', 'index'), { recursive: true }); // the publisher is gone: it knows its map
    await xz.process.stop();
    await fetch(third, '--publisher', mirror, '--no-upstream', '--no-copy', ...seeder);
    assert.deepEqual(await readNarInfos(third), await readNarInfos(late));
  });

  test('a cache that has only the xz files gives those if no peer has the zstd ones', async () => {
    const store = await copyOfCache();
    await recompressed(store);
    const cache = lab.use(await startHttpCache(made.cacheDir));
    // The map alone, over HTTP: its publisher is off.
    const maps = lab.use(await startHttpCache(join(store, 'narswarm', 'published', '0')));
    const address = String((await lab.run(['key', '--file', key])).event('key')['address']);
    const mirror = address.replace(/^magnet:/, `${maps.url}/`);
    const { store: follower, run } = await follow('--publisher', mirror, '--from', cache.url, '--no-copy');
    const { nars } = await assertSound(follower, made.publicKey);
    assert.deepEqual([nars.length, nars.some(isZstd)], [PATHS, false]);
    assert.equal(received(run)['upstream'], await narBytesOf(made.cacheDir), 'nothing was fetched in vain');
  });

  test('an update does it for the hash map that it publishes, if the config file says so', async () => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const machine = await Machine.make(lab, { flags: [] });
    await machine.configure(
      [
        'publish = true\nrecompress = "zstd:3"\nlisten = "127.0.0.1"\ndht = false\nlan = false',
        `key = "${key}"\nfrom = "${cache.url}"\ntrusted-public-key = "${made.publicKey}"\n`,
      ].join('\n'),
    );
    await machine.subscribe('lab', made.root, '--publish');
    const first = await machine.update();
    assert.deepEqual([first.event('recompressed')['nars'], first.event('built')['records']], [PATHS, PATHS]);
    assert.ok((await assertSound(machine.store, made.publicKey)).nars.every(isZstd));
    const requests = cache.requests.length;
    const second = await machine.update();
    assert.deepEqual([second.event('recompressed')['nars'], second.event('built')['isNew']], [0, false]);
    assert.equal(cache.requests.length, requests, 'nothing is fetched again');
  });

  /** A folder for PATH with the real xz, except that the second one writes its pid and never ends. */
  const hangingXz = async (): Promise<{ env: Record<string, string>; bin: string }> => {
    const bin = await lab.folder('bin');
    const real = (await execa('sh', ['-c', 'command -v xz'])).stdout;
    const hang = `echo $$ > ${bin}/pid.new && mv ${bin}/pid.new ${bin}/pid; exec sleep 100`;
    const script = `#!/bin/sh\nif mkdir ${bin}/first 2>/dev/null; then exec ${real} "$@"; fi\n`;
    await writeFile(
      join(bin, 'xz'),
      `${script}if mkdir ${bin}/second 2>/dev/null; then ${hang}; fi\nexec ${real} "$@"\n`,
      {
        mode: 0o755,
      },
    );
    return { env: { PATH: `${bin}:${process.env['PATH'] ?? ''}` }, bin };
  };
  const completeNars = async (store: string): Promise<string[]> => {
    const dir = join(store, 'narswarm', 'recompress');
    const names = await readdir(dir, { recursive: true }).catch(() => []);
    return names.filter(isZstd).map((name) => join(dir, name));
  };

  for (const signal of ['SIGKILL', 'SIGINT'] as const) {
    test(`after ${signal}, the store and its followers are as before, and the next run takes over what is complete`, async () => {
      const store = await copyOfCache();
      const publisher = await lab.service([...publishing(store), '--key', key, ...ALONE]);
      const { env, bin } = await hangingXz();
      const running = lab.start(recompressing(store), { env });
      let pid = '';
      while ((pid = await readFile(join(bin, 'pid'), 'utf8').catch(() => '')) === '') await sleep(20);
      let [complete] = await completeNars(store);
      for (; complete === undefined; [complete] = await completeNars(store)) await sleep(20);
      const { ino } = await stat(complete);
      const run = await running.stop(signal);
      if (signal === 'SIGINT') assertFailure(run, 130, 'INTERRUPTED', /run the same command again/);
      else process.kill(Number(pid), 'SIGKILL'); // the xz that nobody waits for any more
      assert.equal((await assertSound(store, made.publicKey)).nars.some(isZstd), false);
      const mirror = String(publisher.ready['mirror']);
      const { store: follower } = await follow('--publisher', mirror, '--no-upstream', '--no-copy');
      assert.equal((await assertSound(follower, made.publicKey)).nars.length, PATHS);
      await publisher.process.stop();
      await rm(join(store, 'narswarm', 'served'), { recursive: true }); // so nothing was served a moment ago

      assert.equal((await recompressed(store))['nars'], PATHS);
      const { nars } = await assertSound(store, made.publicKey);
      assert.deepEqual([nars.length, nars.every(isZstd)], [PATHS, true]);
      const files = await Promise.all(nars.map((name) => stat(join(store, 'nar', name))));
      assert.ok(files.some((file) => file.ino === ino), 'nothing is done twice'); // prettier-ignore
      assert.deepEqual(await readdir(join(store, 'narswarm', 'recompress')), []);
    });
  }

  test('if the disk has no room for both, it says so, and the store stays sound', async () => {
    const store = await lab.folder('tmpfs');
    const left = `${store}.after`;
    assert.equal(spawnSync('mkdir', [left]).status, 0);
    const script = `mount -t tmpfs -o size=2m tmpfs "$0" || exit 99; cp -r ${made.cacheDir}/. "$0"; "$@"; status=$?; cp -r "$0/." ${left}; exit $status`;
    const run = await once(store, [], { wrapper: [...inNamespace('-m'), 'sh', '-c', script, store] });
    assertFailure(run, 7, 'STORE_FULL', /need about .* beside the old files/);
    const { narInfos } = await assertSound(left, made.publicKey);
    assert.equal(narInfos.length, PATHS);
    assert.ok((await recompressed(left))['nars'], 'the next run goes on');
    assert.ok((await assertSound(left, made.publicKey)).nars.every(isZstd));
  });
});
