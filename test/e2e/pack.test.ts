/** Closures are packed onto a disk: a binary cache that is whole or visibly not, whatever happens on the way. */
import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { appendFile, cp, mkdir, readdir, readFile, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { formatNarInfo } from '../../src/nix/narinfo.ts';
import { hashNar } from '../../src/store/hashing/hash-nar.ts';
import { fakeSync } from '../support/fake-sync.ts';
import { exfatDisk } from '../support/exfat-disk.ts';
import { nextGeneration } from '../support/generations.ts';
import {
  ALONE,
  assertFailure,
  assertSound,
  Lab,
  narBytesOf,
  readNarInfos,
  requisites,
  type ProcessOptions,
  type Run,
} from '../support/lab.ts';
import { Machine } from '../support/update-lab.ts';

const PATHS = 6;

describe('pack', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let total: number;
  /** A file store that has the closure. */
  let store: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([700_000, 20_000, 5_000]);
    total = await narBytesOf(made.cacheDir);
    store = await lab.folder('store');
    const run = await lab.run(['fetch', made.root, '--no-copy', '--store', store, ...from(), ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
  });
  after(() => lab[Symbol.asyncDispose]());

  const from = (): string[] => ['--from', made.cacheDir, '--trusted-public-key', made.publicKey, '--scope', 'off'];
  const offline = (): string[] => ['--no-upstream', '--trusted-public-key', made.publicKey, '--scope', 'off'];
  const pack = (dir: string, args: readonly string[] = [], options?: ProcessOptions): Promise<Run> =>
    lab.run(['pack', made.root, dir, '--store', store, ...offline(), ...ALONE, ...args], options);
  /** A disk on which nothing can be linked. */
  const exfat = async () => lab.use(await exfatDisk(await lab.folder('exfat')));

  test('says first how large it is; a dry run writes nothing', async () => {
    const dir = join(await lab.folder('usb'), 'nix');
    const run = await pack(dir, ['--dry-run']);
    assert.equal(run.status, 0, run.stderr);
    const { paths, nars, bytes, thereBytes, linked } = run.event('plan');
    assert.deepEqual(
      { paths, nars, bytes, thereBytes, linked },
      { paths: PATHS, nars: PATHS, bytes: 0, thereBytes: 0, linked: true },
    );
    assert.ok(Number(run.event('plan')['freeBytes']) > 0);
    assert.equal(existsSync(dir), false);
    const other = await exfat();
    assert.equal((await pack(other.dir, ['--dry-run'])).event('plan')['bytes'], other.isMounted ? total : 0);
    assert.deepEqual(await readdir(other.dir), []);
    const told = await lab.runPlain(['pack', made.root, dir, '--store', store, ...offline(), ...ALONE]);
    assert.match(
      told.stdout,
      /^6 paths in 6 NARs: links, on the disk of the file store, 0 B there already, .* free on the disk of /,
    );
    assert.match(told.stdout, /^packed {2}6 paths; 6 NARs written, /m);
    assert.match(told.stdout, new RegExp(`^next {4}narswarm unpack ${dir}`, 'm'));
  });

  test('plain Nix reads a disk with exFAT, and checks the signatures', async () => {
    const disk = await exfat();
    const run = await pack(disk.dir, [], { env: disk.env });
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([run.event('packed')['nars'], run.event('packed')['bytes']], [PATHS, total]);
    assert.equal((await assertSound(disk.dir, made.publicKey)).narInfos.length, PATHS);
    const to = await lab.folder('target');
    const copy = ['copy', '--from', `file://${disk.dir}`, '--to', to, made.root];
    const nix = (key: string) =>
      execa('nix', [...copy, '--extra-experimental-features', 'nix-command', '--trusted-public-keys', key], {
        env: lab.env,
        reject: false,
      });
    const stranger = await nix('other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=');
    assert.match(stranger.stderr, /lacks a (valid )?signature|lacks a signature by a trusted key/);
    assert.equal((await nix(made.publicKey)).exitCode, 0);
    assert.equal(requisites(to, made.root).length, PATHS);
    const readme = await readFile(join(disk.dir, 'README.txt'), 'utf8');
    assert.match(readme, new RegExp(`nix copy --from file://DIR ${made.root}`));
    assert.match(readme, /narswarm unpack DIR/);
    const again = await pack(disk.dir, [], { env: disk.env });
    const { nars, bytes } = again.event('packed');
    assert.deepEqual({ nars, bytes, there: again.event('plan')['thereBytes'] }, { nars: 0, bytes: 0, there: total });
  });

  test('writes nothing onto the disk of the system where another one is to be mounted', async () => {
    const place = await lab.folder('mount-point');
    const fstab = lab.path('fstab');
    await writeFile(fstab, `UUID=1 ${place} ext4 noauto 0 0\n`);
    const script = `mount --bind ${fstab} /etc/fstab && exec "$@"`;
    const wrapper = ['unshare', '--mount', 'sh', '-c', script, 'sh'];
    for (const more of [[], ['--dry-run']]) {
      const run = await pack(join(place, 'nix'), more, { wrapper });
      assertFailure(run, 7, 'STORE_UNWRITABLE', /nothing is mounted on .*mount-point.*: mount it \(mount /);
    }
    assert.deepEqual(await readdir(place), []);
  });

  test('says that a file is in the way', async () => {
    const file = lab.path('file');
    await writeFile(file, '');
    for (const dir of [file, join(file, 'nix')])
      assertFailure(await pack(dir), 7, 'STORE_UNWRITABLE', /a file is in the way of .*: name a folder$/m);
    const unpacked = await lab.run(['unpack', file, '--store', await lab.folder('store')]);
    assertFailure(unpacked, 3, 'NOT_FOUND', /is no folder: name the one that narswarm pack has written/);
  });

  test('fetches first what the file store lacks', async () => {
    const empty = await lab.folder('empty');
    const dir = await lab.folder('usb');
    const run = await lab.run(['pack', made.root, dir, '--store', empty, ...from(), ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('plan')['fetchBytes'], total);
    assert.equal((await assertSound(dir, made.publicKey)).nars.length, PATHS);
    const none = await lab.run(['pack', made.root, dir, '--store', await lab.folder('none'), ...offline(), ...ALONE]);
    assertFailure(none, 3, 'NARINFO_MISSING', /is missing.*--from or --publisher/);
  });

  test('killed before any sync of the disk, it leaves no file that only looks whole, and the next run writes none twice', async () => {
    const bin = await fakeSync(lab, 'kill -9 $PPID');
    let killed = 0;
    for (let at = 1; ; at++) {
      const disk = await exfat();
      const run = await pack(disk.dir, [], { env: { ...disk.env, ...bin(disk.dir, at) } });
      if (run.status === 0) break;
      killed++;
      assert.equal(run.signal, 'SIGKILL');
      const infos = await readNarInfos(disk.dir);
      for (const name of (await readdir(join(disk.dir, 'nar'))).filter((one) => !one.endsWith('.part')))
        assert.equal((await hashNar(join(disk.dir, 'nar', name)))?.fileHash, name.slice(0, 52));
      for (const { url, references } of infos.values()) {
        assert.ok(existsSync(join(disk.dir, url)), 'a narinfo comes after its NAR');
        for (const reference of references) assert.ok(infos.has(reference.slice(0, 32)), 'and after its references');
      }
      assert.equal(existsSync(join(disk.dir, 'narswarm/suitcase.json')) && infos.size < PATHS, false);
      const next = await pack(disk.dir, [], { env: disk.env });
      assert.equal(next.status, 0, next.stderr);
      assert.equal(next.event('packed')['bytes'], 0, 'all bytes were there');
      await assertSound(disk.dir, made.publicKey);
      assert.deepEqual(
        (await readdir(disk.dir, { recursive: true })).filter((name) => /\.(part|tmp)$/.test(name)),
        [],
      );
    }
    assert.ok(killed >= 3, 'NARs, narinfos and contents each wait for the disk');
  });

  test('a disk without room is refused before anything is fetched or written', async () => {
    const dir = await lab.folder('small');
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', dir]);
    try {
      const empty = await lab.folder('empty');
      const run = await lab.run(['pack', made.root, dir, '--store', empty, ...from(), ...ALONE]);
      assertFailure(run, 7, 'STORE_FULL', /not enough room .* are needed, and .* are free: free .*--since/);
      assert.ok(Number(run.event('plan')['bytes']) > 256 * 1024);
      assert.deepEqual(await readdir(dir), []);
      assert.deepEqual(await readdir(join(empty, 'nar')), []);
    } finally {
      await execa('umount', [dir]);
    }
  });

  test('a disk that is pulled out ends the run in one sentence, and nothing is written in its place', async () => {
    const disk = await exfat();
    const bin = await fakeSync(lab, disk.isMounted ? 'umount -l "$SYNCED"' : 'rm -r "$SYNCED"');
    const run = await pack(disk.dir, [], { env: { ...disk.env, ...bin(disk.dir, 1) } });
    assertFailure(run, 7, 'STORE_UNWRITABLE', /plugged in and mounted|check the disk, then run the same command again/);
    assert.deepEqual(await readdir(disk.dir).catch(() => []), []);
  });

  test('with --verify, wrong bytes on the disk are found and written again', async () => {
    const { dir, env } = await exfat();
    assert.equal((await pack(dir, [], { env })).status, 0);
    const [name = ''] = await readdir(join(dir, 'nar'));
    const path = join(dir, 'nar', name);
    const { size } = statSync(path);
    await truncate(path, size - 1);
    await appendFile(path, 'x');
    assert.equal((await pack(dir, [], { env })).event('packed')['nars'], 0, 'its size is right');
    const run = await pack(dir, ['--verify'], { env });
    assert.deepEqual([run.status, run.event('packed')['mended']], [0, 1], run.stderr);
    await assertSound(dir, made.publicKey);
  });

  test('a path that no trusted key has signed is packed as it is if the file store has it, and nothing else is', async () => {
    const own = await lab.folder('own');
    await cp(store, own, { recursive: true });
    const infos = await readNarInfos(own);
    const root = infos.get(basename(made.root).slice(0, 32));
    assert.ok(root !== undefined);
    await writeFile(
      join(own, `${basename(made.root).slice(0, 32)}.narinfo`),
      formatNarInfo({ ...root, signatures: [] }),
    );
    await writeFile(join(own, 'narswarm', 'netrc'), 'machine cache password secret');
    const dir = await lab.folder('usb');
    const download = 'd41d8cd98f00b204e9800998ecf8427e.mp4.part'; // of a browser
    await writeFile(join(dir, download), 'half a film');
    const run = await lab.run(['pack', made.root, dir, '--store', own, ...offline(), ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual((await readNarInfos(dir)).get(basename(made.root).slice(0, 32))?.signatures, []);
    const names = (await readdir(dir)).filter((name) => !name.endsWith('.narinfo'));
    assert.deepEqual(names.toSorted(), [
      'README.txt',
      download,
      'log',
      'nar',
      'narswarm',
      'nix-cache-info',
      'realisations',
    ]);
    assert.deepEqual(await readdir(join(dir, 'narswarm')), ['suitcase.json']);
  });

  test('links, pipes and files in the way are not written through', async () => {
    const dir = await lab.folder('usb');
    await execa('mkfifo', [join(dir, 'nix-cache-info')]);
    assertFailure(await pack(dir), 7, 'STORE_UNWRITABLE', /nix-cache-info is in the way/);
    const other = await lab.folder('usb');
    const elsewhere = await lab.folder('elsewhere');
    await symlink(elsewhere, join(other, 'nar'));
    assertFailure(await pack(other), 7, 'STORE_UNWRITABLE', /nar is in the way/);
    assert.deepEqual(await readdir(elsewhere), []);
    assertFailure(await pack(store), 2, 'USAGE', /is the file store itself/);
    assertFailure(await lab.run(['pack', other, '--store', store]), 2, 'USAGE', /name what to pack/);
    assertFailure(await pack(`${made.root}/nix`), 2, 'USAGE', /is in the Nix store: name a folder on the disk/);
    assertFailure(await pack('.#lab'), 2, 'USAGE', /is something to pack: name the folder on the disk last/);
  });

  test('the folder may have any name, and what others have there stays', async () => {
    const usb = await lab.folder('usb');
    assertFailure(
      await pack(`${usb}#lab`),
      2,
      'USAGE',
      /is something to pack: .* \(make it first, for one of that name\)/,
    );
    const dir = join(usb, 'disk #1\n"?%41');
    await mkdir(join(dir, 'nar'), { recursive: true });
    const others = ['README.txt', 'holiday.tmp', 'nar/holiday.nar.xz.part'];
    for (const name of others) await writeFile(join(dir, name), 'somebody else’s');
    const args = ['pack', made.root, dir, '--store', store, ...offline(), ...ALONE];
    const told = await lab.runPlain(args);
    assert.equal(told.status, 0, told.stderr);
    assert.ok(told.stdout.includes(`next    narswarm unpack '${dir}'   (at the other site; narswarm/README.txt there`));
    for (const name of others) assert.equal(await readFile(join(dir, name), 'utf8'), 'somebody else’s');
    assert.match(await readFile(join(dir, 'narswarm/README.txt'), 'utf8'), /^This folder is a binary cache of Nix/);
    await rm(join(dir, 'README.txt'));
    for (let time = 0; time < 2; time++) {
      const again = await lab.runPlain(args);
      assert.match(again.stdout, /\(at the other site; README\.txt there/, again.stderr);
    }
    const key = ['--trusted-public-key', made.publicKey];
    const unpacked = await lab.run(['unpack', dir, '--store', await lab.folder('store'), ...key]);
    assert.equal(unpacked.status, 0, unpacked.stderr);
  });

  test('nothing is removed or written behind links of a disk that strangers have filled', async () => {
    const elsewhere = await lab.folder('elsewhere');
    const thesis = join(elsewhere, 'documents', 'thesis');
    await mkdir(join(elsewhere, 'documents'));
    await writeFile(thesis, 'years of work');
    const longAgo = new Date(Date.now() - 86_400_000);
    await utimes(join(elsewhere, 'documents'), longAgo, longAgo);
    for (const link of ['narswarm/packing', 'narswarm/index', 'narswarm/index/map/shards', 'realisations']) {
      const dir = await lab.folder('usb');
      await mkdir(join(dir, dirname(link)), { recursive: true });
      await symlink(elsewhere, join(dir, link));
      assertFailure(await pack(dir), 7, 'STORE_UNWRITABLE', new RegExp(`${link} is in the way`));
      assert.equal(await readFile(thesis, 'utf8'), 'years of work', link);
      assert.deepEqual(await readdir(elsewhere), ['documents'], link);
    }
  });

  test('a subscription stands for its newest complete generation; --since leaves out an older one', async () => {
    const own = await lab.closure([30_000, 10_000]);
    const flags = ['--from', own.cacheDir, '--trusted-public-key', own.publicKey, '--scope', 'off'];
    const source = await lab.folder('lists').then((dir) => join(dir, 'paths.txt'));
    await writeFile(source, `${own.root}\n`);
    const machine = await Machine.of(lab, { desktop: { source } }, flags);
    const env = { NARSWARM_CONFIG: machine.config };
    const packed = (dir: string, ...args: readonly string[]): Promise<Run> =>
      lab.run(
        ['pack', 'desktop', dir, '--store', machine.store, ...flags.slice(2), '--no-upstream', ...ALONE, ...args],
        { env },
      );
    const dir = await lab.folder('usb');
    assertFailure(await packed(dir), 3, 'NOT_FOUND', /never been complete here: run narswarm update desktop/);
    assertFailure(await packed('desktop'), 2, 'USAGE', /desktop is a subscription: name the folder on the disk last/);
    const silent = ['--publisher', `http://127.0.0.1:9/?xs=urn:btpk:${'0'.repeat(64)}`, '--publisher-timeout', '1s'];
    const misspelt = await lab.run(['pack', 'desktp', dir, '--store', machine.store, ...ALONE, ...silent], { env });
    assertFailure(misspelt, 6, 'INDEX_UNREACHABLE', /there is no subscription desktp in .*: did you mean desktop\?/);
    assert.equal((await machine.update()).status, 0);
    const first = await packed(dir);
    assert.equal(first.status, 0, first.stderr);
    const next = await nextGeneration(own, 1, 12_000);
    await writeFile(source, `${next.root}\n`);
    assert.equal((await machine.update()).status, 0);
    const rest = await lab.folder('usb');
    const run = await packed(rest, '--since', '1');
    assert.equal(run.status, 0, run.stderr);
    const { paths, leftOut } = run.event('plan');
    const all = requisites(next.buildStore, next.root);
    const older = new Set(requisites(own.buildStore, own.root));
    const fresh = all.filter((path) => !older.has(path));
    assert.deepEqual([paths, leftOut], [fresh.length, all.length - fresh.length]);
    assert.ok(Number(leftOut) > 0 && fresh.length > 0);
    const infos = await readNarInfos(rest);
    assert.equal(infos.size, all.length, 'plain Nix reads the narinfos of the whole closure');
    assert.equal((await readdir(join(rest, 'nar'))).length, fresh.length);
    const to = await lab.folder('target');
    const nix = (cache: string, root: string) =>
      execa(
        'nix',
        [
          'copy',
          '--from',
          `file://${cache}`,
          '--to',
          to,
          root,
          '--extra-experimental-features',
          'nix-command',
          '--trusted-public-keys',
          own.publicKey,
        ],
        { env: lab.env },
      );
    await nix(dir, own.root);
    await nix(rest, next.root);
    assert.match(
      await readFile(join(rest, 'README.txt'), 'utf8'),
      /desktop, generation 2\nLeft out +the closure of desktop, generation 1\n/,
    );
    const unknown = await packed(
      await lab.folder('usb'),
      '--since',
      '/nix/store/00000000000000000000000000000000-gone',
    );
    assert.deepEqual([unknown.status, unknown.event('plan')['unknown'], unknown.event('plan')['leftOut']], [0, 1, 0]);
    assert.match(String(unknown.event('warning')['message']), /1 path of what the other site has is not known here/);
    assertFailure(await packed(rest, '--since', '7'), 3, 'NOT_FOUND', /no generation 7 here, only 2, 1/);
    assertFailure(await packed(rest, '--since', 'yesterday'), 2, 'USAGE', /neither the number of a generation/);
  });
});
