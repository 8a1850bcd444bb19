/** A suitcase is unpacked into a file store: what this machine trusts, and nothing else, whoever has packed it. */
import assert from 'node:assert/strict';
import { appendFile, chmod, cp, mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { fakeSync } from '../support/fake-sync.ts';
import { nextGeneration } from '../support/generations.ts';
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
import { Machine, updated } from '../support/update-lab.ts';

const PATHS = 6;
/** The path that nothing else depends on except its package and the root. */
const LEAF = 'lab-blob-2';

describe('unpack', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let total: number;
  /** A suitcase with the closure. */
  let packed: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([300_000, 20_000, 5_000]);
    total = await narBytesOf(made.cacheDir);
    packed = await pack(made.root, [made.cacheDir], made.publicKey);
  });
  after(() => lab[Symbol.asyncDispose]());

  const pack = async (
    root: string,
    caches: readonly string[],
    key: string,
    ...args: readonly string[]
  ): Promise<string> => {
    const dir = await lab.folder('usb');
    const store = await lab.folder('packing');
    const from = caches.flatMap((cache) => ['--from', cache]);
    const flags = [...from, '--trusted-public-key', key, '--scope', 'off', ...ALONE];
    const run = await lab.run(['pack', root, dir, '--store', store, ...flags, ...args]);
    assert.equal(run.status, 0, run.stderr);
    return dir;
  };
  const unpack = (dir: string, store: string, ...args: readonly string[]): Promise<Run> =>
    lab.run(['unpack', dir, '--store', store, '--trusted-public-key', made.publicKey, ...args]);
  /** A suitcase of which one part is changed. */
  const hostile = async (
    change: (leaf: NarInfo, dir: string) => Promise<Partial<NarInfo> | undefined>,
  ): Promise<string> => {
    const dir = await lab.folder('hostile');
    await cp(packed, dir, { recursive: true });
    const leaf = [...(await readNarInfos(dir)).values()].find(({ storePath }) => storePath.endsWith(LEAF));
    assert.ok(leaf !== undefined);
    const changed = await change(leaf, dir);
    if (changed !== undefined) await writeFile(narInfoIn(dir, leaf), formatNarInfo({ ...leaf, ...changed }));
    return dir;
  };
  const narInfoIn = (dir: string, { storePath }: Pick<NarInfo, 'storePath'>): string =>
    join(dir, `${basename(storePath).slice(0, 32)}.narinfo`);
  /** Fails unless all but the leaf and its two referrers is unpacked and sound. */
  const assertOthers = async (run: Run, store: string): Promise<CliEvent> => {
    const event = run.event('unpacked');
    const { narInfos } = await assertSound(store, made.publicKey);
    assert.equal(narInfos.length, 4, run.stdout);
    assert.equal(
      narInfos.some((name) => name.endsWith(LEAF)),
      false,
    );
    assert.deepEqual(
      (event['missing'] as { path: string }[]).map(({ path }) => path.endsWith(LEAF)),
      [true],
    );
    assert.match(run.stderr, new RegExp(`${LEAF} is missing: .*; the others are unpacked$`, 'm'));
    return event;
  };

  test('a file store without room is refused before anything is written, and continues once there is some', async () => {
    const store = await lab.folder('small');
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', store]);
    try {
      const run = await unpack(packed, store);
      assertFailure(run, 7, 'STORE_FULL', /not enough room .* are needed, and .* are free: free .*--store/);
      assert.deepEqual(await readdir(join(store, 'nar')), []);
      await execa('mount', ['-o', 'remount,size=4m', store]);
      const again = await unpack(packed, store);
      assert.equal(again.status, 0, again.stderr);
      await assertSound(store, made.publicKey);
    } finally {
      await execa('umount', [store]);
    }
  });

  test('what it takes is verified, pinned, and served as anything else; a second run reads nothing', async () => {
    const store = await lab.folder('store');
    const dry = await unpack(packed, join(store, 'none'), '--dry-run');
    assert.deepEqual(
      [dry.status, dry.event('plan')['nars'], dry.event('plan')['bytes']],
      [0, PATHS, total],
      dry.stderr,
    );
    const key = ['--trusted-public-key', made.publicKey];
    const listed = await lab.runPlain(['unpack', packed, '--store', join(store, 'none'), '--dry-run', ...key]);
    assert.equal(listed.stdout.match(/^ {2}\/nix\/store\/\S+ {2}\S+ [kM]?B$/gm)?.length, PATHS, listed.stdout);
    assert.deepEqual(await readdir(store), []);
    const run = await unpack(packed, store);
    assert.equal(run.status, 0, run.stderr);
    const { nars, bytes, pinned, roots } = run.event('unpacked');
    assert.deepEqual(
      { nars, bytes, pinned, roots },
      { nars: PATHS, bytes: total, pinned: [made.root], roots: [made.root] },
    );
    await assertSound(store, made.publicKey);
    const again = await unpack(packed, store, '--import', '--to', await lab.folder('nix'));
    assert.deepEqual(
      [again.status, again.event('unpacked')['nars'], again.event('unpacked')['imported']],
      [0, 0, true],
    );
    const kept = await lab.run(['gc', '--store', store, '--max-size', '1kB']);
    assert.equal(kept.status, 0, kept.stderr);
    assert.equal((await assertSound(store, made.publicKey)).narInfos.length, PATHS, 'gc keeps what is pinned');
    const people = await lab.runPlain(['unpack', packed, '--store', store, '--trusted-public-key', made.publicKey]);
    assert.match(people.stdout, /^unpacked {2}6 paths; 0 NARs from the disk, 0 B in .*\npinned {4}1 root /m);
    const loose = await lab.folder('store');
    assert.deepEqual((await unpack(packed, loose, '--no-pin')).event('unpacked')['pinned'], []);
  });

  test('killed before its narinfos, it reads no NAR from the disk again', async () => {
    const store = await lab.folder('store');
    const kill = await fakeSync(lab, 'kill -9 $PPID');
    const args = ['unpack', packed, '--store', store, '--trusted-public-key', made.publicKey];
    assert.equal((await lab.run(args, { env: kill(store, 1) })).signal, 'SIGKILL');
    await assertSound(store, made.publicKey, { afterKill: true });
    const run = await lab.run(args);
    assert.deepEqual(
      [run.status, run.event('unpacked')['nars'], run.event('unpacked')['held']],
      [0, 0, PATHS],
      run.stderr,
    );
    assert.equal((await assertSound(store, made.publicKey, { afterKill: true })).narInfos.length, PATHS);
  });

  test('if several publishers must have built a path, a disk is no exception', async () => {
    const run = await unpack(packed, await lab.folder('store'), '--require', '2');
    assert.equal(run.status, 4, run.stderr);
    assert.equal(run.event('unpacked')['paths'], 0);
    assert.match(run.stderr, /--require asks for 2 publishers .* none is named/);
  });

  test('fetch and update read the disk like any cache', async () => {
    const flags = ['--from', packed, '--trusted-public-key', made.publicKey, '--scope', 'off'];
    const to = await lab.folder('target');
    const fetched = await lab.run([
      'fetch',
      made.root,
      '--store',
      await lab.folder('store'),
      '--to',
      to,
      ...flags,
      ...ALONE,
    ]);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.equal(requisites(to, made.root).length, PATHS);
    const machine = await Machine.of(lab, { desktop: { source: made.root } }, flags);
    assert.equal(updated(await machine.update())['outcome'], 'complete');
  });

  test('without what it left out, it says so; with it, the rest is enough', async () => {
    const own = await lab.closure([30_000, 10_000]);
    const older = own.root;
    const full = await lab.folder('older');
    await execa(
      'nix',
      [
        'copy',
        '--from',
        `file://${own.cacheDir}`,
        '--to',
        full,
        older,
        '--extra-experimental-features',
        'nix-command',
        '--trusted-public-keys',
        own.publicKey,
      ],
      { env: lab.env },
    );
    const next = await nextGeneration(own, 1, 12_000);
    const rest = await pack(next.root, [own.cacheDir], own.publicKey, '--since', older);
    const args = ['unpack', rest, '--trusted-public-key', own.publicKey, '--import'];
    const empty = await lab.run([...args, '--store', await lab.folder('store'), '--to', await lab.folder('target')]);
    assert.equal(empty.status, 5, empty.stderr);
    assert.match(empty.stderr, /pack it again without --since/);
    const store = await lab.folder('store');
    const run = await lab.run([...args, '--store', store, '--to', full]);
    assert.equal(run.status, 0, run.stderr);
    assert.ok(Number(run.event('plan')['valid']) > 0);
    assert.equal(requisites(full, next.root).length, requisites(next.buildStore, next.root).length);
  });

  test('a path that no trusted key has signed is refused and named; what it refers to is not', async () => {
    const dir = await hostile(async () => undefined);
    await writeFile(
      narInfoIn(dir, { storePath: made.root }),
      formatNarInfo({ ...(await rootOf(dir)), signatures: [] }),
    );
    const store = await lab.folder('store');
    const run = await unpack(dir, store);
    assert.equal(run.status, 4, run.stderr);
    assert.match(
      run.stderr,
      new RegExp(
        `error: ${made.root} is missing: it is not signed|error: ${made.root} is missing: .*sign.*--trusted-public-key.*; the others are unpacked`,
      ),
    );
    const { narInfos } = await assertSound(store, made.publicKey);
    assert.equal(narInfos.length, PATHS - 1, 'its references have their own signatures, or follow from their contents');
    assert.ok((run.event('unpacked')['pinned'] as string[]).length > 0);
  });
  const rootOf = async (dir: string): Promise<NarInfo> => {
    const root = (await readNarInfos(dir)).get(basename(made.root).slice(0, 32));
    assert.ok(root !== undefined);
    return root;
  };

  for (const [what, change, status] of [
    ['a URL that leads out of it', async () => ({ url: '../../../etc/passwd' }), 5],
    ['an absolute URL', async () => ({ url: 'http://192.0.2.1/nar/x.nar.xz' }), 5],
    [
      'a NAR with other bytes',
      async ({ url, fileSize = 0 }: NarInfo, dir: string) => {
        await writeFile(join(dir, url), Buffer.alloc(fileSize, 7));
        return undefined;
      },
      5,
    ],
    [
      'a NAR whose FileHash is right, but not its contents',
      async (leaf: NarInfo, dir: string) => {
        const other = [...(await readNarInfos(dir)).values()].find(({ storePath }) => storePath.endsWith('blob-1'));
        return { url: other?.url ?? '', fileHash: other?.fileHash, fileSize: other?.fileSize } as Partial<NarInfo>;
      },
      5,
    ],
    [
      'a NAR that unpacks to far more than its NarSize',
      async (_: NarInfo, dir: string) => {
        const bomb = (await execa('xz', ['-c'], { input: Buffer.alloc(200_000_000), encoding: 'buffer' })).stdout;
        const fileHash = fileHashOf(createHash('sha256').update(bomb).digest());
        await writeFile(join(dir, 'nar', `${fileHash}.nar.xz`), bomb);
        return { url: `nar/${fileHash}.nar.xz`, fileHash, fileSize: bomb.length };
      },
      5,
    ],
    [
      'a pipe for a NAR',
      async ({ url }: NarInfo, dir: string) => {
        await rm(join(dir, url));
        await execa('mkfifo', [join(dir, url)]);
        return undefined;
      },
      5,
    ],
    [
      'a link to an endless device for a NAR',
      async ({ url }: NarInfo, dir: string) => {
        await rm(join(dir, url));
        await symlink('/dev/zero', join(dir, url));
        return undefined;
      },
      5,
    ],
    [
      'a link to a secret of this machine for a NAR',
      async ({ url }: NarInfo, dir: string) => {
        await rm(join(dir, url));
        await symlink('/etc/shadow', join(dir, url));
        return undefined;
      },
      5,
    ],
    [
      'a NAR file of a terabyte',
      async ({ url }: NarInfo, dir: string) => {
        await truncate(join(dir, url), 2 ** 40).catch(() => truncate(join(dir, url), 2 ** 36));
        return { fileSize: 2 ** 40 };
      },
      5,
    ],
    [
      'a pipe for a narinfo',
      async (leaf: NarInfo, dir: string) => {
        await rm(narInfoIn(dir, leaf));
        await execa('mkfifo', [narInfoIn(dir, leaf)]);
        return undefined;
      },
      3,
    ],
    [
      'an endless narinfo',
      async (leaf: NarInfo, dir: string) => {
        await truncate(narInfoIn(dir, leaf), 2 ** 33);
        return undefined;
      },
      5,
    ],
  ] as const)
    test(`a hostile suitcase costs only its own paths: ${what}`, async () => {
      const dir = await hostile(change);
      const store = await lab.folder('store');
      const run = await unpack(dir, store);
      assert.equal(run.status, status, run.stderr + run.stdout);
      await assertOthers(run, store);
      assert.equal(run.stderr.trimEnd().split('\n').length, 1, run.stderr);
      if (status === 3)
        assert.match(
          run.stderr,
          new RegExp(`is missing: ${dir} has no narinfo for it, which /.* refers to: pack it again`),
        );
      const whole = await unpack(packed, store);
      assert.equal(whole.status, 0, whole.stderr);
      assert.equal((await assertSound(store, made.publicKey)).narInfos.length, PATHS);
    });

  test('all contents are checked, however many they are', async () => {
    const own = await lab.closure([9_000_000, 5_000]);
    const dir = await pack(own.root, [own.cacheDir], own.publicKey);
    const leaf = [...(await readNarInfos(dir)).values()].find(({ storePath }) => storePath.endsWith('lab-blob-1'));
    assert.ok(leaf !== undefined);
    const other = (await execa('xz', ['-c'], { input: 'something else', encoding: 'buffer' })).stdout;
    const fileHash = fileHashOf(createHash('sha256').update(other).digest());
    await writeFile(join(dir, 'nar', `${fileHash}.nar.xz`), other);
    const lie = { ...leaf, url: `nar/${fileHash}.nar.xz`, fileHash, fileSize: other.length };
    await writeFile(narInfoIn(dir, leaf), formatNarInfo(lie));
    const store = await lab.folder('store');
    const run = await lab.run(['unpack', dir, '--store', store, '--trusted-public-key', own.publicKey]);
    assert.equal(run.status, 5, run.stderr);
    assert.match(run.stderr, /does not have the signed contents/);
    assert.equal((await assertSound(store, own.publicKey)).narInfos.length, 2);
  });

  test('a disk is not its own file store: what is there counts as verified', async () => {
    const disk = await lab.folder('usb');
    await cp(packed, disk, { recursive: true });
    const link = join(await lab.folder('link'), 'disk');
    await symlink(disk, link);
    for (const store of [disk, `${disk}/`, link])
      assertFailure(await unpack(disk, store), 2, 'USAGE', /is the file store itself: name another one with --store/);
    assert.deepEqual(await readdir(join(disk, 'narswarm')), ['suitcase.json']);
  });

  test('a file that is cut short is tried again by its contents, and named', async () => {
    const own = await lab.closure([50_000], 'short');
    const dir = await pack(own.root, [own.cacheDir], own.publicKey);
    const leaf = [...(await readNarInfos(dir)).values()].find(({ storePath }) => storePath.endsWith('short-blob-0'));
    assert.ok(leaf !== undefined);
    const file = join(dir, leaf.url);
    const whole = await readFile(file);
    await rm(file); // it may be a link to a file of a file store
    await writeFile(file, whole.subarray(0, 1_000));
    const run = await lab.runPlain([
      'unpack',
      dir,
      '--store',
      lab.path('store'),
      '--trusted-public-key',
      own.publicKey,
    ]);
    assert.equal(run.status, 5, run.stderr);
    assert.match(run.stderr, /has 1000 bytes, expected \d+; trying it again by its contents$/m);
  });

  test('a list of contents that is no list is refused', async () => {
    const store = await lab.folder('store');
    const list = (dir: string): string => join(dir, 'narswarm', 'suitcase.json');
    const none = await lab.folder('none');
    assertFailure(await unpack(none, store), 3, 'NOT_FOUND', /run pack again to complete it, or take a path/);
    for (const [text, says] of [
      ['{', /is damaged/],
      ['root:$6$secret', /is damaged/],
      ['{"version":1,"at":"now","what":[],"roots":["/etc/passwd"]}', /is damaged/],
    ] as const) {
      const dir = await lab.folder('bad');
      await mkdir(join(dir, 'narswarm'));
      await writeFile(list(dir), text);
      const run = await unpack(dir, store);
      assertFailure(run, 7, 'STORE_CORRUPT', says);
      assert.doesNotMatch(run.stderr, /secret/);
    }
    const pipe = await lab.folder('bad');
    await mkdir(join(pipe, 'narswarm'));
    await execa('mkfifo', [list(pipe)]);
    assertFailure(await unpack(pipe, store), 3, 'NOT_FOUND', /has no narswarm/);
    const link = await lab.folder('bad');
    await mkdir(join(link, 'narswarm'));
    await symlink('/etc/shadow', list(link));
    assertFailure(await unpack(link, store), 3, 'NOT_FOUND', /has no narswarm/);
    assertFailure(await unpack(join(link, 'gone'), store), 3, 'NOT_FOUND', /there is no folder .*gone/);
  });

  test('a hash map of a publisher that is followed comes along; one of a stranger is left alone', async () => {
    const publisher = await lab.publisher(made, ALONE);
    const dir = await lab.folder('usb');
    const packing = await lab.folder('packing');
    const flags = [
      '--publisher',
      publisher.mirror,
      '--no-upstream',
      '--peer',
      publisher.peer,
      '--trusted-public-key',
      made.publicKey,
    ];
    const run = await lab.run(['pack', 'lab', dir, '--store', packing, ...flags, ...ALONE]);
    assert.deepEqual([run.status, run.event('packed')['maps']], [0, 1], run.stderr);
    const [map = ''] = await readdir(join(dir, 'narswarm', 'index'));
    const manifest = join(dir, 'narswarm', 'index', map, 'manifest');
    await publisher.process.stop();

    const stranger = await lab.folder('store');
    const told = await lab.runPlain(['unpack', dir, '--store', stranger, '--trusted-public-key', made.publicKey]);
    assert.equal(told.status, 0, told.stderr);
    assert.match(
      told.stderr,
      /^the hash map magnet:\?xs=urn:btpk:[0-9a-f]{64} is on the disk, and is not followed here/m,
    );
    assert.deepEqual(await readdir(join(stranger, 'narswarm', 'index')).catch(() => []), []);

    // As a user to whom the disk does not give all files. A bad sector is no different.
    const wrapper = ['unshare', '--user', '--map-user=47120', '--map-group=47120'];
    const args = ['--trusted-public-key', made.publicKey, '--publisher', publisher.address];
    for (const [unreadable, mode] of [
      [manifest, 0o644],
      [dirname(dirname(manifest)), 0o755],
    ] as const) {
      const store = await lab.folder('store');
      await chmod(unreadable, 0);
      const without = await lab.run(['unpack', dir, '--store', store, ...args], { wrapper });
      assertFailure(
        without,
        7,
        'STORE_UNWRITABLE',
        /cannot read .* \(EACCES\): let this user .*; the others are unpacked$/m,
      );
      assert.equal((await assertSound(store, made.publicKey)).narInfos.length, PATHS);
      await chmod(unreadable, mode);
    }

    const follower = await lab.folder('store');
    const taken = await unpack(dir, follower, '--publisher', publisher.address);
    assert.deepEqual([taken.status, taken.event('unpacked')['maps']], [0, 1], taken.stderr);
    assert.deepEqual(await readFile(join(follower, 'narswarm', 'index', map, 'manifest')), await readFile(manifest));
    const fetched = await lab.run([
      'fetch',
      'lab',
      '--no-copy',
      '--store',
      follower,
      '--publisher',
      publisher.address,
      '--publisher-timeout',
      '1s',
      '--no-upstream',
      '--trusted-public-key',
      made.publicKey,
      ...ALONE,
    ]);
    assert.equal(fetched.status, 0, fetched.stderr);

    await appendFile(manifest, 'more\n');
    const forged = await unpack(dir, await lab.folder('store'), '--publisher', publisher.address);
    assert.equal(forged.status, 6, forged.stderr);
    assert.equal(forged.event('unpacked')['paths'], PATHS, 'the paths have signatures of their own');
    await rm(manifest);
    await execa('mkfifo', [manifest]);
    assert.equal((await unpack(dir, await lab.folder('store'), '--publisher', publisher.address)).status, 0);
  });
});
