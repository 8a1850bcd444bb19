/** `narswarm mount`: listings alone are enough to look around, and a file's NAR comes when the file is opened. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, readNarInfos } from '../support/lab.ts';
import { makeListedCache, type ListedCache } from '../support/listed-cache.ts';
import { baseName, isMounted, lacksFuse, look, lookWell, mount } from '../support/mounted.ts';

/** The user and group of nobody. */
const NOBODY = 65_534;

suite('a mounted closure', { concurrency: 2, skip: lacksFuse() }, () => {
  let lab: Lab;
  let made: ListedCache;
  let narUrls: Map<string, string>;

  before(async () => {
    lab = await Lab.open();
    made = await makeListedCache(await lab.folder('make'), [3_000, 400_000, 2_500_000]);
    narUrls = new Map(
      [...(await readNarInfos(made.cacheDir)).values()].map(({ storePath, url }) => [
        storePath.slice('/nix/store/'.length),
        url,
      ]),
    );
  });
  after(() => lab[Symbol.asyncDispose]());

  const urlOf = (name: string): string => `/${narUrls.get(baseName(made, name)) ?? ''}`;
  const narRequests = ({ requests }: HttpCache): string[] =>
    requests.map(({ url }) => url).filter((url) => url.startsWith('/nar/'));
  const contents = (name: string, ...below: readonly string[]): Promise<Buffer> =>
    readFile(join(made.unpacked, baseName(made, name), ...below));
  const cacheCopy = async (): Promise<string> => {
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true });
    return dir;
  };
  /** Waits for a state that another process brings about. */
  const until = async (isSo: () => boolean | Promise<boolean>): Promise<void> => {
    while (!(await isSo())) await sleep(20);
  };

  test('is listed with modes, sizes and links, and no NAR is fetched for it', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    const mounted = await mount(lab, made, [cache.url]);
    const format = '%P %y %m %l %s\n';
    const paths = [...narUrls.keys()].toSorted();
    const listOf = async (dir: string): Promise<string[]> => {
      const places = paths.map((path) => join(dir, path));
      const text = await lookWell(
        'find',
        ...places,
        '(',
        '-type',
        'd',
        '-printf',
        '%P %y %m\n',
        '-o',
        '!',
        '-name',
        'broken', // only the NAR tells where it leads
        '-printf',
        format,
        ')',
      );
      return text.split('\n').toSorted();
    };
    assert.deepEqual(await listOf(mounted.dir), await listOf(made.unpacked));
    assert.deepEqual((await lookWell('ls', mounted.dir)).trim().split('\n'), paths);
    assert.match(await lookWell('ls', '-aR', mounted.dir), /read me[^]*broken|broken[^]*read me/);
    assert.deepEqual(narRequests(cache), []);
    await mounted.process.stop();
  });

  test('fetches the one NAR of a file that is opened, once for two readers', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    const mounted = await mount(lab, made, [cache.url]);
    const blob = mounted.path('tree-2', 'share/blob');
    const [one, other] = await Promise.all([look('cat', blob), look('cat', blob)]);
    const expected = await contents('tree-2', 'share/blob');
    assert.ok(one.stdout.equals(expected) && other.stdout.equals(expected));
    assert.equal(await lookWell('cat', mounted.path('tree-2', 'doc/read me – ünï')), 'text\n');
    assert.equal(await lookWell('sh', '-c', mounted.path('tree-2', 'bin/hi')), 'hello\n');
    assert.deepEqual([...new Set(narRequests(cache))], [urlOf('tree-2')]);
    assert.equal(mounted.process.events.filter(({ event }) => event === 'opening').length, 1);
    assert.deepEqual(await readdir(join(mounted.store, 'nar')), [urlOf('tree-2').slice('/nar/'.length)]);
    const others = [...narUrls.keys()].filter((name) => name !== baseName(made, 'tree-2'));
    await assertSound(mounted.store, made.publicKey, { withoutNar: others });
    assert.equal((await mounted.process.stop()).status, 0);
  });

  test('is as Nix unpacks it, every byte', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    const mounted = await mount(lab, made, [cache.url]);
    for (const path of narUrls.keys())
      await lookWell('diff', '--recursive', '--no-dereference', join(made.unpacked, path), join(mounted.dir, path));
    await assertSound(mounted.store, made.publicKey);
    assert.equal((await mounted.process.stop()).status, 0);
    assert.deepEqual(await readdir(mounted.dir), [], 'nothing is mounted any more');
    assert.deepEqual(await readdir(join(mounted.store, 'narswarm/mount')), [], 'unpacked NARs go with the mount');
  });

  test('refuses every change', async () => {
    const mounted = await mount(lab, made, [made.cacheDir]);
    for (const [file, ...args] of [
      ['touch', mounted.path('tree-0', 'new')],
      ['touch', join(mounted.dir, 'new')],
      ['rm', mounted.path('tree-0', 'share/blob')],
      ['chmod', '777', mounted.path('tree-0', 'share/blob')],
      ['mv', mounted.path('tree-0', 'doc'), mounted.path('tree-0', 'other')],
    ] as const)
      assert.match((await look(file, ...args)).stderr, /Read-only file system/);
    await mounted.process.stop();
  });

  test('is an error of the disk where a cache sends wrong bytes, and is tried again', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    cache.faults = [{ kind: 'corrupt', match: /^\/nar\//, afterBytes: 1_000 }];
    const mounted = await mount(lab, made, [cache.url]);
    const blob = mounted.path('tree-1', 'share/blob');
    const failed = await look('cat', blob);
    assert.match(failed.stderr, /Input\/output error/);
    assert.equal(failed.stdout.length, 0);
    await mounted.process.event('warning', ({ path }) => String(path).endsWith('tree-1'));
    cache.faults = [];
    assert.ok((await look('cat', blob)).stdout.equals(await contents('tree-1', 'share/blob')));
    await mounted.process.stop();
  });

  test('shows nothing of a NAR that is not the signed one, though its file is the named one', async () => {
    const lying = await cacheCopy();
    const infos = await readNarInfos(made.cacheDir);
    const nameOf = (name: string): string => join(lying, `${baseName(made, name).slice(0, 32)}.narinfo`);
    const other = infos.get(baseName(made, 'tree-0').slice(0, 32));
    assert.ok(other !== undefined);
    const wrong = (await readFile(nameOf('tree-2'), 'utf8'))
      .replace(/^URL: .*$/m, `URL: ${other.url}`)
      .replace(/^FileHash: .*$/m, `FileHash: sha256:${other.fileHash}`)
      .replace(/^FileSize: .*$/m, `FileSize: ${other.fileSize}`);
    await writeFile(nameOf('tree-2'), wrong);
    const alone = await mount(lab, made, [lying]);
    const failed = await look('cat', alone.path('tree-2', 'share/nothing'), alone.path('tree-2', 'share/blob'));
    assert.match(failed.stderr, /Input\/output error/);
    assert.equal(failed.stdout.length, 0);
    await alone.process.stop();
    const mended = await mount(lab, made, [lying, made.cacheDir], { store: alone.store });
    assert.ok(
      (await look('cat', mended.path('tree-2', 'share/blob'))).stdout.equals(await contents('tree-2', 'share/blob')),
    );
    await mended.process.stop();
  });

  test('is what the NAR says, once it is here, and not what a listing said', async () => {
    const lying = await cacheCopy();
    const listing = join(lying, `${baseName(made, 'tree-1').slice(0, 32)}.ls`);
    const lies = (await readFile(listing, 'utf8'))
      .replace('"size":400000', '"size":7')
      .replace('"nothing"', '"nothing here"')
      .replace('"target":"hello"', '"target":"blob"');
    await writeFile(listing, lies);
    const mounted = await mount(lab, made, [lying]);
    const list = (): Promise<string> =>
      lookWell('ls', '-l', mounted.path('tree-1', 'share'), mounted.path('tree-1', 'bin/hi'));
    assert.match(await list(), /hi -> blob[^]* 7 .*blob[^]*nothing here/);
    // The size that the kernel was told of is 7.
    assert.ok(
      (await look('cat', mounted.path('tree-1', 'share/blob'))).stdout.equals(await contents('tree-1', 'share/blob')),
    );
    assert.match((await look('cat', mounted.path('tree-1', 'share/nothing here'))).stderr, /No such file/);
    const truth = await list();
    assert.match(truth, /hi -> hello[^]*400000 .*blob/);
    assert.doesNotMatch(truth, /nothing here/);
    await lookWell(
      'diff',
      '--recursive',
      '--no-dereference',
      join(made.unpacked, baseName(made, 'tree-1')),
      mounted.path('tree-1'),
    );
    await mounted.process.stop();
  });

  test('a listing leads nobody out of its path', async () => {
    const lying = await cacheCopy();
    const listing = join(lying, `${baseName(made, 'tree-0').slice(0, 32)}.ls`);
    const lies = (await readFile(listing, 'utf8'))
      .replace('"target":"/nowhere"', '"target":"/etc/passwd"')
      .replace('"target":"share/doc"', `"target":"../${baseName(made, 'tree-1')}"`);
    await writeFile(listing, lies);
    const mounted = await mount(lab, made, [lying]);
    assert.match((await look('cat', mounted.path('tree-0', 'bin/broken'))).stderr, /No such file/);
    assert.equal(await lookWell('readlink', mounted.path('tree-0', 'bin/broken')), '/nowhere\n');
    assert.equal(await lookWell('readlink', mounted.path('tree-0', 'doc')), 'share/doc\n');
    await mounted.process.stop();
  });

  test('is listed from its NARs where no cache has listings', async () => {
    const bare = await cacheCopy();
    for (const name of await readdir(bare))
      if (name.endsWith('.ls')) await writeFile(join(bare, name), '{"version":2}');
    await using cache = await startHttpCache(bare);
    const mounted = await mount(lab, made, [cache.url]);
    await lookWell('ls', mounted.path('tree-0'));
    assert.deepEqual(narRequests(cache), [urlOf('tree-0')]);
    await mounted.process.event('unlisted', ({ path }) => String(path).endsWith('tree-0'));
    assert.equal((await lookWell('ls', '-lR', mounted.dir)).match(/ 2500000 /g)?.length, 1);
    await mounted.process.stop();
  });

  test('keeps what is here if the cache dies, and the rest is an error', async () => {
    const cache = await startHttpCache(made.cacheDir);
    const mounted = await mount(lab, made, [cache.url]);
    await lookWell('ls', '-R', mounted.dir);
    await lookWell('cat', mounted.path('tree-1', 'bin/hello'));
    await cache.stop();
    assert.ok(
      (await look('cat', mounted.path('tree-1', 'share/blob'))).stdout.equals(await contents('tree-1', 'share/blob')),
    );
    assert.match((await look('cat', mounted.path('tree-0', 'share/blob'))).stderr, /Input\/output error/);
    assert.equal((await mounted.process.stop()).status, 0);
  });

  test('comes from the Nix store of this machine where that has the path', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    const mounted = await mount(lab, made, [cache.url], { env: { NIX_REMOTE: `local?root=${made.buildStore}` } });
    assert.ok(
      (await look('cat', mounted.path('tree-2', 'share/blob'))).stdout.equals(await contents('tree-2', 'share/blob')),
    );
    assert.deepEqual(narRequests(cache), []);
    await mounted.process.stop();
  });

  test('a program that waits for a NAR can be stopped, and its NAR still comes', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    const { promise: stopped, resolve: note } = Promise.withResolvers<void>();
    cache.faults = [{ kind: 'hold', match: /^\/nar\//, until: stopped }];
    const mounted = await mount(lab, made, [cache.url]);
    const program = mounted.path('tree-0', 'bin/hello');
    const reader = spawn('cat', [program], { stdio: 'ignore' });
    await mounted.process.event('opening');
    reader.kill('SIGTERM');
    assert.deepEqual(await once(reader, 'exit'), [null, 'SIGTERM']);
    note();
    assert.equal(await lookWell('cat', program), '#!/bin/sh\necho hello\n');
    const openings = mounted.process.events.filter(({ event }) => event === 'opening');
    assert.equal(openings.length, 1, 'it was stopped only when its NAR had failed');
    await mounted.process.stop();
  });

  test('ends at a SIGTERM, also while files are open and somebody waits for a NAR', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    cache.faults = [{ kind: 'stall-headers', match: new RegExp(urlOf('tree-0').replaceAll('.', '\\.')) }];
    const mounted = await mount(lab, made, [cache.url]);
    const holder = spawn('sh', ['-c', 'exec 3<"$0"; echo open; cat', mounted.path('tree-1', 'share/blob')]);
    await once(holder.stdout, 'data');
    const waiting = look('cat', mounted.path('tree-0', 'bin/hello'));
    await mounted.process.event('opening', ({ path }) => String(path).endsWith('tree-0'));
    const run = await mounted.process.stop();
    assert.equal(run.status, 0, run.stderr);
    assert.notEqual((await waiting).status, 0);
    assert.equal(isMounted(mounted.dir), false);
    holder.stdin.end();
    await once(holder, 'exit');
  });

  test('ends if somebody else unmounts it', async () => {
    const mounted = await mount(lab, made, [made.cacheDir]);
    await lookWell('cat', mounted.path('tree-0', 'bin/hello'));
    await lookWell('umount', mounted.dir);
    const run = await mounted.process.end();
    assert.equal(run.status, 0, run.stderr);
    run.event('unmounted');
  });

  test('ends at a SIGTERM, also if it was unmounted with -l while a file is open', async () => {
    const control = 'mount -t fusectl none /sys/fs/fuse/connections && exec "$@"'; // as systemd does
    const wrapper = ['unshare', '--mount', 'sh', '-c', control, 'sh'];
    const mounted = await mount(lab, made, [made.cacheDir], { wrapper });
    const script = 'exec 3<"$0" && umount -l "$1" && echo open && read -r line; cat <&3';
    const inside = [`--mount=/proc/${mounted.process.pid}/ns/mnt`, 'sh', '-c', script];
    const holder = spawn('nsenter', [...inside, mounted.path('tree-2', 'share/blob'), mounted.dir]);
    await once(holder.stdout, 'data');
    const run = await mounted.process.stop();
    assert.deepEqual([run.status, run.stderr], [0, '']);
    run.event('unmounted');
    holder.stdin.end('\n');
    await once(holder, 'close');
  });

  test('a process that is killed leaves nothing mounted, and its unpacked NARs to the next one', async () => {
    const mounted = await mount(lab, made, [made.cacheDir]);
    await lookWell('cat', mounted.path('tree-1', 'bin/hello'));
    const holder = spawn('sh', [
      '-c',
      'exec 3<"$0"; echo open; read line; cat <&3',
      mounted.path('tree-2', 'share/blob'),
    ]);
    await once(holder.stdout, 'data');
    await mounted.process.stop('SIGKILL');
    await until(() => !isMounted(mounted.dir));
    let text = '';
    holder.stderr.on('data', (some: Buffer) => (text += some.toString()));
    holder.stdin.end('\n');
    await once(holder, 'close');
    assert.match(text, /not connected|aborted/i);
    const next = await mount(lab, made, [made.cacheDir], { dir: mounted.dir, store: mounted.store });
    assert.equal((await readdir(join(mounted.store, 'narswarm/mount'))).length, 1);
    assert.ok(
      (await look('cat', next.path('tree-2', 'share/blob'))).stdout.equals(await contents('tree-2', 'share/blob')),
    );
    await next.process.stop();
  });

  test('a dead mount, whose keeper was killed, too, is taken away by the next one', async () => {
    const mounted = await mount(lab, made, [made.cacheDir]);
    const { pid } = mounted.process;
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ').map(Number);
    const keepers = [];
    for (const child of children)
      if ((await readFile(`/proc/${child}/cmdline`, 'utf8')).includes('umount')) keepers.push(child);
    assert.equal(keepers.length, 1);
    for (const keeper of keepers) process.kill(keeper, 'SIGKILL');
    await mounted.process.stop('SIGKILL');
    assert.match((await look('ls', mounted.dir)).stderr, /not connected/);
    const next = await mount(lab, made, [made.cacheDir], { dir: mounted.dir, store: mounted.store });
    assert.equal(await lookWell('cat', next.path('tree-1', 'bin/hello')), '#!/bin/sh\necho hello\n');
    assert.equal((await next.process.stop()).status, 0);
    assert.equal(isMounted(mounted.dir), false);
  });

  test('is there for one shell of a user without root, who needs no flag for it', async () => {
    const home = await lab.folder('home');
    const dir = join(home, 'lab');
    await mkdir(dir);
    for (const own of [home, dir]) await chown(own, NOBODY, NOBODY);
    await chmod(lab.dir, 0o711);
    // A device that is open to all, in a folder that only these processes see.
    const openDevice = `mount -t tmpfs none "$0"; mknod -m 666 "$0/fuse" c 10 229; mount --bind "$0/fuse" /dev/fuse`;
    const asUser = `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups env -u STATE_DIRECTORY HOME="${home}"`;
    const script = `set -e; ${openDevice}; exec ${asUser} unshare --user --map-root-user --mount "$@"`;
    const wrapper = ['unshare', '--mount', 'sh', '-c', script, await lab.folder('device')];
    const from = ['--from', made.cacheDir, '--trusted-public-key', made.publicKey];
    const mounting = lab.start(['mount', dir, made.root, ...from, ...ALONE], { wrapper });
    await mounting.event('mounted');
    const inside = ['-t', String(mounting.pid), '--user', '--mount'];
    const hello = join(dir, baseName(made, 'tree-1'), 'bin/hello');
    assert.equal(await lookWell('nsenter', ...inside, 'cat', hello), '#!/bin/sh\necho hello\n');
    assert.equal(isMounted(dir), false, 'not for others');
    assert.equal((await mounting.stop()).status, 0);
    assert.ok((await readdir(join(home, '.cache/narswarm/nar'))).length > 0);
  });

  test('is refused where it cannot be', async () => {
    const args = ['--from', made.cacheDir, '--trusted-public-key', made.publicKey, '--store', lab.path('store')];
    const dir = await lab.folder('mount');
    const run = (at: string): ReturnType<Lab['run']> => lab.run(['mount', at, made.root, ...args, '--no-lan']);
    assertFailure(await run(lab.path('none')), 13, 'MOUNT_FAILED', /make it first/);
    assertFailure(await run(made.cacheDir), 13, 'MOUNT_FAILED', /is not empty/);
    assertFailure(await run(join(made.cacheDir, 'nix-cache-info')), 13, 'MOUNT_FAILED', /is no folder/);
    assertFailure(await run(join(made.cacheDir, 'nix-cache-info/x')), 13, 'MOUNT_FAILED', /a file is in the way/);
    const absent = ['mount', dir, `/nix/store/${'0'.repeat(32)}-absent`, ...args, '--no-lan'];
    assert.equal((await lab.run(absent)).status, 3);
    assert.equal(isMounted(dir), false);
    const other = await mount(lab, made, [made.cacheDir]);
    assertFailure(await run(other.dir), 13, 'MOUNT_FAILED', /something is mounted on .* already: umount/);
    await other.process.stop();
    const swapped = await lab.run(['mount', 'nixpkgs#hello', dir, ...args]);
    assertFailure(swapped, 2, 'USAGE', /^error: nixpkgs#hello is something to show: name the folder to mount on first/);
  });

  test('is refused where another process mounts meanwhile, which stays', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    const { promise: isMountedNow, resolve: goOn } = Promise.withResolvers<void>();
    cache.faults = [{ kind: 'hold', match: /narinfo$/, until: isMountedNow }];
    const dir = await lab.folder('mount');
    const args = ['--store', lab.path('store'), '--from', cache.url, '--trusted-public-key', made.publicKey];
    const late = lab.start(['mount', dir, made.root, ...args, ...ALONE]);
    while (cache.requests.every(({ url }) => !url.endsWith('.narinfo'))) await sleep(20);
    const first = await mount(lab, made, [made.cacheDir], { dir });
    goOn();
    const run = await late.end();
    assertFailure(run, 13, 'MOUNT_FAILED', /something is mounted on .* already/);
    assert.equal(await lookWell('cat', first.path('tree-1', 'bin/hello')), '#!/bin/sh\necho hello\n');
    await first.process.stop();
    assert.equal(isMounted(dir), false);
  });

  test('tells of a full disk, and shows the file once there is room', async () => {
    const store = await lab.folder('small');
    assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', store]).status, 0);
    try {
      const mounted = await mount(lab, made, [made.cacheDir], { store });
      const blob = mounted.path('tree-2', 'share/blob');
      assert.match((await look('cat', blob)).stderr, /Input\/output error/);
      const warning = await mounted.process.event('warning', ({ message }) =>
        /cannot be read now/.test(String(message)),
      );
      assert.match(
        String(warning['message']),
        /the disk of the file store is full: free some space, then open the file/,
      );
      assert.equal(spawnSync('mount', ['-o', 'remount,size=30m', store]).status, 0);
      assert.deepEqual((await look('cat', blob)).stdout, await contents('tree-2', 'share/blob'));
      await mounted.process.stop();
    } finally {
      spawnSync('umount', [store]);
    }
  });
});
