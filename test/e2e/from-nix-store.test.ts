/** NARs that a machine has let go of, since its Nix store has their paths: neighbours get them from there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, readdir, readFile, rename, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { assertSound, readNarInfos, requisites, type Lab, type Run } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { bytesOf, DEAD_CACHE, fullUser, LanUser } from '../support/lan-user.ts';
import { Lan, type Host } from '../support/namespaces.ts';

suite('NARs of the Nix store', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  /** Bytes of all NARs, uncompressed. */
  let narBytes: number;
  let total: number;

  before(async () => {
    ({ lab, made, total } = await openLanLab([2_500_000, 600_000, 60_000, 5_000], 'cache.nixos.org'));
    narBytes = [...(await readNarInfos(made.cacheDir)).values()].reduce((sum, { narSize }) => sum + narSize, 0);
  });
  after(() => lab[Symbol.asyncDispose]());

  interface Holder {
    readonly user: LanUser;
    /** Folder of the paths of its Nix store. */
    readonly root: string;
    /** Environment in which Nix has that store. */
    readonly nix: Readonly<Record<string, string>>;
  }

  /** Makes a machine that has the closure in its Nix store, and lets go of all NARs. */
  async function holder(host: Host, key?: string): Promise<Holder> {
    const root = await lab.folder('nix');
    assert.equal(spawnSync('cp', ['-a', `${made.buildStore}/.`, root]).status, 0);
    const nix = { NIX_REMOTE: `local?root=${root}` };
    const user = await fullUser(lab, host, { made, key, env: nix });
    const run = await user.run('gc', '--store', user.store, '--keep-imported', 'recipe');
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('done')['released'], {
      nars: (await readdir(join(made.cacheDir, 'nar'))).length,
      bytes: total,
    });
    assert.deepEqual(await readdir(join(user.store, 'nar')), []);
    return { user, root: join(root, 'nix/store'), nix };
  }

  /** Starts the daemon of a holder, and lets another neighbour ask for everything, so that all of it is checked. */
  async function serve(lan: Lan, user: LanUser, ...args: readonly string[]): Promise<void> {
    await user.daemon(...args);
    const first = await LanUser.of(lab, lan.host('first'), { made, cache: DEAD_CACHE });
    assert.equal(bytesOf(await first.fetch()).peers, narBytes);
  }

  const clientOf = (lan: Lan, cache: string): Promise<LanUser> => LanUser.of(lab, lan.host('client'), { made, cache });

  function assertBytes(run: Run, expected: { readonly peers: number; readonly upstream: number }): void {
    const { peers, upstream } = bytesOf(run);
    assert.deepEqual({ peers, upstream }, expected);
  }

  test('nothing is let go of if Nix cannot be asked, which is said', async () => {
    await using lan = Lan.open();
    const root = await lab.folder('nix');
    assert.equal(spawnSync('cp', ['-a', `${made.buildStore}/.`, root]).status, 0);
    const nix = { NIX_REMOTE: `local?root=${root}` };
    const user = await fullUser(lab, lan.host('without'), { made, env: nix });
    const bin = await lab.folder('bin');
    for (const name of ['nix', 'nix-store', 'nix-daemon'])
      await writeFile(join(bin, name), '#!/bin/sh\necho "error: broken" >&2; exit 1\n', { mode: 0o755 });
    const env = { ...nix, PATH: `${bin}:/usr/bin:/bin` };
    const run = await lab.run(['gc', '--store', user.store, '--keep-imported', 'recipe'], { env });
    assert.deepEqual([run.status, run.event('done')['released']], [0, { nars: 0, bytes: 0 }], run.stderr);
    const warning = String(run.event('warning')['message']);
    assert.match(warning, /^no NAR file is let go of, since Nix cannot be asked what it has: .*broken/);
    assert.ok((await readdir(join(user.store, 'nar'))).length > 0);
  });

  test('those of a subscription are offered again after its catalogue was lost', async () => {
    const store = await lab.folder('store');
    const config = lab.path('config.toml');
    await writeFile(config, `[subscriptions.desktop]\nsource = "${made.root}"\nimport = true\n`);
    const env = { NARSWARM_CONFIG: config, NIX_REMOTE: `local?root=${await lab.folder('nix')}` };
    const what = ['--from', made.cacheDir, '--trusted-public-key', made.publicKey, '--scope', 'off', '--no-lan'];
    const args = ['update', '--store', store, '--keep-imported', 'recipe', ...what];
    const offered = async (): Promise<string[]> => {
      const run = await lab.run(args, { env });
      assert.equal(run.status, 0, run.stderr);
      const lines = (await readFile(join(store, 'narswarm/catalogue.jsonl'), 'utf8')).split('\n').filter(Boolean);
      const entries = lines.map((line) => JSON.parse(line) as { storePath: string; isInNix?: boolean });
      return entries.filter(({ isInNix }) => isInNix === true).map(({ storePath }) => storePath);
    };
    const all = await offered();
    assert.equal(all.length, (await readNarInfos(made.cacheDir)).size);
    await truncate(join(store, 'narswarm/catalogue.jsonl'), 0);
    assert.deepEqual((await offered()).toSorted(), all.toSorted());
    assert.deepEqual(await readdir(join(store, 'nar')), []);
  });

  test('a neighbour without any cache gets all of them, uncompressed', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const { user } = await holder(lan.host('holder'));
    await user.daemon();
    const client = await clientOf(lan, DEAD_CACHE);
    const run = await client.fetch();
    assert.equal(bytesOf(run).peers, narBytes);
    assert.equal(run.event('done')['savedBytes'], total, 'what a cache would have sent');
    const { nars } = await assertSound(client.store, made.publicKey);
    assert.ok(
      nars.every((name) => name.endsWith('.nar')),
      nars.join(' '),
    );
  });

  test('a neighbour that imports them takes hardly anything from a slow cache', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const { user } = await holder(lan.host('holder'));
    await serve(lan, user);
    const cache = stack.use(await startCacheOn(lan.host('cache', { upKbit: 500 }), made.cacheDir));
    const client = await clientOf(lan, cache.url);
    const target = `local?root=${await lab.folder('target')}`;
    const { peers, upstream } = bytesOf(await client.run('fetch', made.root, '--store', client.store, '--to', target));
    assert.ok(peers >= 0.9 * narBytes && upstream <= 0.1 * total, JSON.stringify({ peers, upstream }));
    assert.equal(requisites(target, made.root).length, (await readNarInfos(made.cacheDir)).size);
  });

  test('what Nix collects, or somebody changes, is offered no longer, and comes from a cache', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const { user, root } = await holder(lan.host('holder'));
    await serve(lan, user);
    const infos = [...(await readNarInfos(made.cacheDir)).values()].toSorted((a, b) => b.narSize - a.narSize);
    const [largest, ...others] = infos.map((info) => ({
      info,
      path: join(root, info.storePath.slice('/nix/store/'.length)),
    }));
    const [collected, changed] = others;
    assert.ok(largest !== undefined && collected !== undefined && changed !== undefined);
    await chmod(root, 0o755);
    await rename(collected.path, join(root, 'trash'));
    await chmod(changed.path, 0o644);
    await writeFile(changed.path, Buffer.alloc(60_000, 'x'));
    await utimes(changed.path, 1, 1);
    const cache = stack.use(await startCacheOn(lan.host('cache', { upKbit: 2_000 }), made.cacheDir));
    const client = await clientOf(lan, cache.url);
    const { peers } = bytesOf(await client.fetch());
    const asked = (await cache.requests()).map(({ url }) => url.slice(1));
    assert.ok(asked.includes(collected.info.url) && asked.includes(changed.info.url), asked.join(' '));
    assert.ok(peers >= largest.info.narSize, `${peers}`);
    await assertSound(client.store, made.publicKey);
  });

  test('what Nix collects while a neighbour reads it comes from a cache', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const host = lan.host('holder', { upKbit: 5_000 });
    const { user, nix } = await holder(host);
    await serve(lan, user);
    const cache = stack.use(await startCacheOn(lan.host('cache', { upKbit: 2_000 }), made.cacheDir));
    const client = await clientOf(lan, cache.url);
    const sentBefore = host.sentBytes();
    const fetching = client.startFetch();
    while (host.sentBytes() - sentBefore < 700_000) await sleep(20);
    const { status, stderr } = spawnSync('nix-store', ['--gc'], { encoding: 'utf8', env: { ...lab.env, ...nix } });
    assert.equal(status, 0, stderr);
    const run = await fetching.end();
    assert.equal(run.status, 0, run.stderr);
    await assertSound(client.store, made.publicKey);
  });

  test('what is not shared is neither offered nor given', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const { user } = await holder(lan.host('holder'));
    await user.daemon('--share-keys', 'another-1');
    const cache = stack.use(await startCacheOn(lan.host('cache'), made.cacheDir));
    const client = await clientOf(lan, cache.url);
    assertBytes(await client.fetch(), { peers: 0, upstream: total });
  });

  test('they are packed without any source', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const { user } = await holder(lan.host('holder'));
    const alone = ['--store', user.store, '--no-lan', '--no-dht', '--no-upstream'];
    const disk = join(await lab.folder('disk'), 'packed');
    const dry = await user.run('pack', made.root, disk, '--dry-run', ...alone);
    assert.equal(dry.status, 0, dry.stderr);
    const packed = await user.run('pack', made.root, disk, ...alone);
    assert.equal(packed.status, 0, packed.stderr);
    const target = `local?root=${await lab.folder('target')}`;
    const keys = ['--option', 'trusted-public-keys', made.publicKey, '--option', 'substituters', ''];
    const copy = ['copy', '--extra-experimental-features', 'nix-command', ...keys, '--from', `file://${disk}`];
    const { status, stderr } = spawnSync('nix', [...copy, '--to', target, made.root], {
      encoding: 'utf8',
      env: lab.env,
    });
    assert.equal(status, 0, stderr);
    await assertSound(user.store, made.publicKey);
  });

  test('they are imported into another store; what has changed in the Nix store comes from a cache', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const { user, root } = await holder(lan.host('holder'));
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const changed = infos.find(({ narSize }) => narSize > 600_000 && narSize < 700_000);
    assert.ok(changed?.fileSize !== undefined);
    const path = join(root, changed.storePath.slice('/nix/store/'.length));
    await chmod(path, 0o644);
    await writeFile(path, Buffer.alloc((await stat(path)).size, 'x'));
    await utimes(path, 1, 1);
    const other = `local?root=${await lab.folder('other')}`;
    const from = ['--from', `file://${made.cacheDir}`, '--no-lan', '--no-dht'];
    const imported = await user.run('fetch', made.root, '--to', other, '--store', user.store, ...from);
    assert.equal(imported.status, 0, imported.stderr);
    assertBytes(imported, { peers: 0, upstream: changed.fileSize });
    assert.equal(requisites(other, made.root).length, infos.length);
    await assertSound(user.store, made.publicKey);
  });

  test('an update lets go of what it has imported, the next one fetches nothing, and Nix gets it from the daemon', async () => {
    const nix = `local?root=${await lab.folder('nix')}`;
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const desktop = lan.host('desktop');
    const env = { NIX_REMOTE: nix };
    const user = await LanUser.of(lab, desktop, { made, cache: `file://${made.cacheDir}`, env });
    assert.equal((await user.run('subscribe', 'desktop', made.root, '--import')).status, 0);
    const update = async (): Promise<unknown> => {
      const run = await user.run('update', '--store', user.store, '--no-lan', '--keep-imported', 'recipe');
      assert.equal(run.status, 0, run.stderr);
      assert.deepEqual(await readdir(join(user.store, 'nar')), []);
      return run.event('subscription')['bytes'];
    };
    assert.deepEqual(await update(), { store: 0, peers: 0, upstream: total });
    assert.deepEqual(await update(), { store: 0, peers: 0, upstream: 0 });
    assert.equal(requisites(nix, made.root).length, (await readNarInfos(made.cacheDir)).size);

    const daemon = await user.daemon('--substituter-port', '0');
    const { substituters } = (await daemon.event('ready')) as unknown as { readonly substituters: readonly string[] };
    const target = `local?root=${await lab.folder('other')}`;
    const keys = ['--option', 'trusted-public-keys', made.publicKey, '--option', 'substituters', ''];
    const words = [
      'nix',
      'copy',
      '--extra-experimental-features',
      'nix-command',
      ...keys,
      '--from',
      substituters[0] ?? '',
    ];
    const [file, ...args] = [...desktop.wrapper, ...words, '--to', target, made.root];
    const { status, stderr } = spawnSync(file, args, { encoding: 'utf8', env: { ...lab.env, NIX_CONFIG: '' } });
    assert.equal(status, 0, stderr);
    assert.equal(requisites(target, made.root).length, requisites(nix, made.root).length);
  });
});
