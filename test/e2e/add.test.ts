/** Own builds are exported, signed, published and fetched elsewhere; paths that were not added stay private. */
import assert from 'node:assert/strict';
import { chmod, cp, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { formatNarInfo, parseNarInfo } from '../../src/nix/narinfo.ts';
import { answersHandshake } from '../support/handshake.ts';
import {
  ALONE,
  assertFailure,
  assertSound,
  Lab,
  readNarInfos,
  requisites,
  type CliEvent,
  type ProcessOptions,
  type Run,
} from '../support/lab.ts';
import { buildOwn, type OwnBuilds } from '../support/own-builds.ts';

/** Number of paths in the closure of the own build: itself, two with the same NAR, and four signed by another key. */
const PATHS = 7;

describe('add', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let own: OwnBuilds;
  /** A copy of the store of own builds, made while no Nix works on it. */
  let copy: string;
  let secretKey: string;
  let publicKey: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([200_000, 5_000]);
    own = await buildOwn(made, await lab.folder('own'));
    copy = await lab.folder('copy');
    await cp(made.buildStore, copy, { recursive: true });
    secretKey = lab.path('own.secret');
    const publicFile = lab.path('own.public');
    await execa('nix-store', ['--generate-binary-cache-key', 'own-1', secretKey, publicFile]);
    publicKey = (await readFile(publicFile, 'utf8')).trim();
  });
  after(() => lab[Symbol.asyncDispose]());

  const add = (args: readonly string[], options: ProcessOptions = {}): Promise<Run> =>
    lab.run(['add', ...args], { ...options, env: { NIX_REMOTE: own.remote, ...options.env } });
  const signing = (store: string): string[] => ['--store', store, '--sign-key', secretKey];
  const trustOfLab = (): string[] => ['--trusted-public-key', made.publicKey];
  const added = async (store: string, args: readonly string[] = []): Promise<CliEvent> => {
    const run = await add([own.root, ...signing(store), ...args]);
    assert.equal(run.status, 0, run.stderr);
    return run.event('added');
  };
  const infoHashOf = async (path: string, store: string): Promise<string> =>
    String((await lab.run(['torrent', path, '--store', store, '--magnet'])).event('torrent')['infoHash']);
  /** Every file of a store with its time of change and, if small, its bytes. */
  const snapshot = async (store: string): Promise<Map<string, string>> => {
    const names = await readdir(store, { recursive: true, withFileTypes: true });
    const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    return new Map(
      await Promise.all(
        files.map(async (file) => [file, `${(await stat(file)).mtimeMs} ${await readFile(file, 'latin1')}`] as const),
      ),
    );
  };

  test('people read a count of NARs, and no line for each', async () => {
    const args = ['add', own.root, ...signing(await lab.folder('cache'))];
    const run = await lab.runPlain(args, { env: { NIX_REMOTE: own.remote } });
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stderr, /^exporting 6 NARs, .* before compression$/m);
    assert.match(run.stdout, /^added {3}7 paths, .* \(.* before compression\) in /);
    assert.doesNotMatch(run.stderr, /\/nix\/store/);
  });

  test('added paths are published, and a machine with the address and the key fetches and imports them', async () => {
    const store = await lab.folder('cache');
    const link = lab.path('result');
    await symlink(own.root, link);
    const one = requisites(made.buildStore, own.root).find((path) => path.endsWith('-one')) ?? '';
    assert.equal((await add([one, ...signing(store)])).status, 0);
    const run = await add([link, ...signing(store)], { env: { TMPDIR: '/nonexistent' } });
    assert.equal(run.status, 0, run.stderr);
    const event = run.event('added');
    assert.deepEqual(
      [event['paths'], event['added'], event['signed'], event['unsigned'], event['publicKey'], event['roots']],
      [PATHS, PATHS - 1, 0, 0, publicKey, [own.root]],
    );
    const { narInfos, nars } = await assertSound(store, publicKey);
    assert.equal(narInfos.length, PATHS);
    assert.equal(nars.length, PATHS - 1, 'two paths share a NAR');
    const infos = await readNarInfos(store);
    const shared = infos.get(basename(made.root).slice(0, 32));
    assert.deepEqual(
      shared?.signatures.map((text) => text.split(':')[0]),
      ['lab-1', 'own-1'],
    );

    const what = ['--store', store, '--root', `own=${own.root}`, '--trusted-public-key', publicKey];
    const { process, ready } = await lab.service(['publish', ...what, '--key', lab.path('key'), ...ALONE]);
    const built = await process.event('built');
    assert.deepEqual([built['records'], built['leftOut'], built['hashedBytes']], [PATHS, 0, 0], 'nothing hashed twice');

    const to = `local?root=${await lab.folder('target')}`;
    const from = ['--publisher', String(ready['mirror']), '--no-upstream', '--trusted-public-key', publicKey];
    const fetched = await lab.run([
      'fetch',
      'own',
      '--store',
      await lab.folder('store'),
      '--to',
      to,
      ...from,
      ...ALONE,
    ]);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.equal(requisites(to, own.root).length, PATHS);
  });

  test('paths that were not added are in no file store, and nobody gets them', async () => {
    const store = await lab.folder('cache');
    const empty = await lab.folder('cache');
    await cp(join(made.cacheDir, 'nix-cache-info'), join(empty, 'nix-cache-info'));
    await mkdir(join(empty, 'nar'));
    const key = ['--key', lab.path('key'), '--trusted-public-key', publicKey];
    const env = { NIX_REMOTE: own.remote };
    const nothing = await lab.run(['publish', '--once', '--store', empty, ...key], { env });
    assertFailure(nothing, 3, 'NOT_FOUND', /nothing in .* can be published \(it holds no narinfos\)/);

    await added(store);
    const elsewhere = await lab.folder('cache');
    const other = await add([own.other, ...signing(elsewhere)]);
    assert.equal(other.status, 0, other.stderr);
    const { ready } = await lab.service(['publish', '--store', store, ...key, ...ALONE], { env });
    assert.ok(!(await readNarInfos(store)).has(basename(own.other).slice(0, 32)));
    const port = Number(ready['port']);
    assert.equal(await answersHandshake(port, await infoHashOf(own.root, store)), true);
    assert.equal(await answersHandshake(port, await infoHashOf(own.other, elsewhere)), false);
  });

  test('paths without a trusted signature are exported, named, and not published', async () => {
    const store = await lab.folder('cache');
    const run = await add([own.root, '--store', store, ...trustOfLab()]);
    assert.equal(run.status, 0, run.stderr);
    assert.match(
      String(run.event('warning')['message']),
      /^3 paths are not signed by a trusted key .*give --sign-key$/,
    );
    assert.deepEqual([run.event('added')['unsigned'], run.event('added')['publicKey']], [3, null]);
    const publish = ['publish', '--once', '--store', store, '--key', lab.path('key'), ...trustOfLab()];
    const built = (await lab.run(publish)).event('built');
    assert.deepEqual([built['records'], built['leftOut']], [PATHS - 3, 3]);
    const { ready } = await lab.service(['daemon', '--store', store, ...trustOfLab(), ...ALONE]);
    assert.equal(ready['nars'], PATHS);
    assert.equal(await answersHandshake(Number(ready['port']), await infoHashOf(own.root, store)), false);
    assert.equal(await answersHandshake(Number(ready['port']), await infoHashOf(made.root, store)), true);
  });

  test('adding again changes no file', async () => {
    const store = await lab.folder('cache');
    await added(store);
    const first = await snapshot(store);
    const again = await added(store);
    assert.deepEqual([again['added'], again['bytes'], again['hashedBytes'], again['signed']], [0, 0, 0, 0]);
    assert.deepEqual(await snapshot(store), first);
  });

  test('existing narinfos gain the signature, and the rest of the store stays the same', async () => {
    const store = await lab.folder('cache');
    const fixture = await lab.fixtureCache();
    await cp(fixture, store, { recursive: true, preserveTimestamps: true });
    await cp(made.cacheDir, store, { recursive: true, preserveTimestamps: true });
    const old = await snapshot(store);
    const event = await added(store);
    assert.deepEqual([event['added'], event['signed'], event['unsigned']], [3, 4, 0]);
    const now = await snapshot(store);
    for (const name of await readdir(fixture)) {
      const file = join(store, name);
      if (name.endsWith('.narinfo')) assert.equal(now.get(file), old.get(file));
    }
    for (const [file, state] of old) if (file.includes('/nar/')) assert.equal(now.get(file), state);
    const gained = (await readNarInfos(store)).get(basename(made.root).slice(0, 32));
    const bare = (await readNarInfos(made.cacheDir)).get(basename(made.root).slice(0, 32));
    assert.ok(gained !== undefined && bare !== undefined);
    assert.deepEqual({ ...gained, signatures: gained.signatures.slice(0, 1) }, bare);
    const catalogue = await readFile(join(store, 'narswarm', 'catalogue.jsonl'), 'utf8');
    const listed = catalogue.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as CliEvent]));
    const paths = new Set(listed.map((entry) => entry['storePath']));
    assert.deepEqual(paths, new Set(requisites(made.buildStore, own.root)), 'the closure alone may be served');
  });

  test('a narinfo with other contents is not signed', async () => {
    const store = await lab.folder('cache');
    await cp(made.cacheDir, store, { recursive: true });
    const file = join(store, `${basename(made.root).slice(0, 32)}.narinfo`);
    const info = (await readNarInfos(store)).get(basename(made.root).slice(0, 32));
    assert.ok(info !== undefined);
    const forged = formatNarInfo({ ...info, references: info.references.slice(1) });
    await writeFile(file, forged);
    const run = await add([own.root, ...signing(store)]);
    assert.equal(run.status, 0, run.stderr);
    assert.match(String(run.event('warning')['message']), new RegExp(`${made.root} stays as it is: .* another build`));
    assert.deepEqual([run.event('added')['added'], run.event('added')['signed']], [3, 3]);
    assert.equal(await readFile(file, 'utf8'), forged);
  });

  test('a missing or damaged NAR is exported again, and its narinfo keeps its signatures', async () => {
    const store = await lab.folder('cache');
    await cp(made.cacheDir, store, { recursive: true });
    const infos = [...(await readNarInfos(store)).values()];
    const [missing, damaged] = infos;
    assert.ok(missing !== undefined && damaged !== undefined);
    await rm(join(store, missing.url));
    const file = join(store, `${basename(missing.storePath).slice(0, 32)}.narinfo`);
    await writeFile(file, formatNarInfo({ ...missing, signatures: [...missing.signatures, 'else-1:b25l'] }));
    await writeFile(join(store, damaged.url), Buffer.alloc(damaged.fileSize ?? 0));
    const event = await added(store);
    assert.deepEqual([event['added'], event['signed']], [5, 2]);
    await assertSound(store, publicKey);
    const names = parseNarInfo(await readFile(file, 'utf8')).signatures.map((text) => text.split(':')[0]);
    assert.deepEqual(names, ['lab-1', 'else-1', 'own-1']);
  });

  for (const [compression, ending] of [
    ['zstd', '.nar.zst'],
    ['zstd:19', '.nar.zst'],
    ['xz', '.nar.xz'],
    ['none', '.nar'],
  ] as const) {
    test(`--compression ${compression} writes such NARs, in a folder with an odd name, too`, async () => {
      const store = join(await lab.folder('odd'), 'a %20b?c#d');
      await added(store, ['--compression', compression]);
      const { nars } = await assertSound(store, publicKey);
      assert.ok(
        nars.every((name) => name.endsWith(ending)),
        String(nars),
      );
      assert.equal(nars.length, PATHS - 1);
    });
  }

  test('NARs are zstd files, except for those that are there in another format', async () => {
    const store = await lab.folder('cache');
    await added(store, ['--compression', 'xz']);
    const first = await snapshot(store);
    assert.equal((await added(store))['added'], 0);
    assert.deepEqual(await snapshot(store), first);
    const other = await added(store, [own.other]);
    assert.deepEqual([other['added'], Number(other['narBytes']) > 0], [1, true]);
    const { nars } = await assertSound(store, publicKey);
    assert.equal(nars.filter((name) => name.endsWith('.nar.zst')).length, 1, String(nars));
  });

  test('a damaged path of the Nix store is refused, and named', async () => {
    const file = join(copy, own.other);
    await chmod(file, 0o644);
    await writeFile(file, 'wrong\n'); // of the same length
    const store = await lab.folder('cache');
    const run = await add([own.other, ...signing(store)], { env: { NIX_REMOTE: `local?root=${copy}` } });
    assertFailure(run, 8, 'NIX_FAILED', /-other is damaged in the Nix store .*: nix-store --repair-path .*-other$/m);
    const { narInfos, nars } = await assertSound(store, publicKey);
    assert.deepEqual([narInfos, nars], [[], []]);
  });

  test('--dry-run lists the paths and changes nothing', async () => {
    const store = lab.path('cache');
    const run = await add([own.root, ...signing(store), '--dry-run']);
    assert.equal(run.status, 0, run.stderr);
    const plan = run.event('plan');
    assert.deepEqual([plan['paths'], (plan['missing'] as string[]).length, plan['toSign']], [PATHS, PATHS, 0]);
    await assert.rejects(stat(store), /ENOENT/);
    await cp(made.cacheDir, store, { recursive: true });
    const untouched = await snapshot(store);
    const next = (await add([own.root, ...signing(store), '--dry-run'])).event('plan');
    assert.deepEqual([(next['missing'] as string[]).length, next['held'], next['toSign']], [3, 4, 4]);
    assert.deepEqual(await snapshot(store), untouched);
  });

  test('a person gets a table with the key and the next command', async () => {
    const store = join(await lab.folder('cache'), 'my cache');
    const env = { NIX_REMOTE: own.remote };
    const run = await lab.runPlain(['add', own.root, ...signing(store), '--quiet'], { env });
    assert.equal(run.status, 0, run.stderr);
    assert.match(
      run.stdout,
      /^added {3}7 paths, .* kB \(.* kB before compression\) in .*\nheld {4}0 paths already\nkey {5}own-1:/,
    );
    const next = /^next {4}narswarm (.*)$/m.exec(run.stdout)?.[1] ?? '';
    const words = (await execa('sh', ['-c', `printf '%s\\n' ${next}`])).stdout.split('\n');
    assert.deepEqual(words, [
      'publish',
      '--store',
      store,
      '--root',
      `own-1.0-b=${own.root}`,
      '--trusted-public-key',
      publicKey,
    ]);
    const published = await lab.run([...words, '--once', '--key', lab.path('key')]);
    assert.equal(published.status, 0, published.stderr);
  });

  describe('interrupted', () => {
    /** A folder for PATH with the real Nix, except that a script runs instead of the `nth` `nix-store --serve`, and later ones. */
    const fakeNix = async (nth: number, script: string): Promise<{ env: Record<string, string>; bin: string }> => {
      const bin = await lab.folder('bin');
      const real = (await execa('sh', ['-c', 'command -v nix-store'])).stdout;
      const start = `bin=${bin} real=${real}\ncase "$*" in --serve*) ;; *) exec $real "$@";; esac
n=1; while ! mkdir $bin/$n 2>/dev/null; do n=$((n + 1)); done
[ $n -ge ${nth} ] || exec $real "$@"`;
      await writeFile(join(bin, 'nix-store'), `#!/bin/sh\n${start}\n${script}\n`);
      await chmod(join(bin, 'nix-store'), 0o755);
      return { env: { NIX_REMOTE: own.remote, PATH: `${bin}:${process.env['PATH']}` }, bin };
    };
    /** Runs a program on the first of the processors that this process may use. */
    const ON_ONE_PROCESSOR = [
      'sh',
      '-c',
      'exec taskset -c "$(taskset -cp $$ | sed "s/.*: //; s/[-,].*//")" "$@"',
      'sh',
    ];
    const TORN = 'torn by a power cut';
    /** Sends the first NAR, which is the largest, and ends within the second. */
    const SEND_ONE = '$real "$@" | dd bs=1 count=202000 2>/dev/null';
    /** Writes its pid into a file that appears whole, and never ends. */
    const HANG = 'echo $$ > $bin/pid.new && mv $bin/pid.new $bin/pid; exec sleep 100';
    const untilItHangs = async (bin: string): Promise<number> => {
      let pid = '';
      while ((pid = await readFile(join(bin, 'pid'), 'utf8').catch(() => '')) === '') await sleep(20);
      return Number(pid);
    };
    const completeNars = async (store: string): Promise<string[]> => {
      const dir = join(store, 'narswarm', 'export');
      const names = await readdir(dir, { recursive: true });
      return names.filter((name) => name.endsWith('.nar.zst')).map((name) => join(dir, name));
    };
    const untilOneIsComplete = async (store: string): Promise<string> => {
      for (;;) {
        const [file] = await completeNars(store);
        if (file !== undefined) return file;
        await sleep(20);
      }
    };

    for (const [signal, isTorn] of [
      ['SIGKILL', false],
      ['SIGKILL', true],
      ['SIGINT', false],
    ] as const) {
      const title = `by ${signal}${isTorn ? ' and a power cut' : ''}`;
      test(`${title}: the store is sound, and the next run completes it`, async () => {
        const store = await lab.folder('cache');
        const { env, bin } = await fakeNix(2, `${SEND_ONE}\n${HANG}`);
        const running = lab.start(['add', own.root, ...signing(store)], { env });
        const pid = await untilItHangs(bin);
        const { ino, mtimeMs } = await stat(await untilOneIsComplete(store));
        const run = await running.stop(signal);
        const { narInfos, nars } = await assertSound(store, publicKey);
        assert.deepEqual([narInfos, nars], [[], []]);
        if (signal === 'SIGINT') assertFailure(run, 130, 'INTERRUPTED', /run the same command again/);
        else process.kill(pid, 'SIGKILL'); // the Nix that nobody waits for any more

        const [complete = ''] = await completeNars(store);
        if (isTorn) await writeFile(complete, TORN);
        assert.equal((await added(store))['added'], PATHS);
        await assertSound(store, publicKey);
        const files = await Promise.all(
          (await readdir(join(store, 'nar'))).map((name) => stat(join(store, 'nar', name))),
        );
        const isKept = files.some((file) => file.ino === ino && file.mtimeMs === mtimeMs);
        assert.equal(isKept, !isTorn);
        assert.ok(files.every(({ size }) => size > TORN.length));
        assert.deepEqual(await readdir(join(store, 'narswarm', 'export')), []);
      });
    }

    test('after its first narinfos: they stay', async () => {
      const store = await lab.folder('cache');
      const { env, bin } = await fakeNix(6, HANG);
      // On one processor, the batches come one after another: the sixth Nix has the last one.
      const running = lab.start(['add', own.many, ...signing(store)], { env, wrapper: ON_ONE_PROCESSOR });
      const pid = await untilItHangs(bin);
      const catalogue = join(store, 'narswarm', 'catalogue.jsonl');
      while (!(await readFile(catalogue, 'utf8').catch(() => '')).endsWith('\n')) await sleep(20);
      await running.stop('SIGKILL');
      process.kill(pid, 'SIGKILL');
      // 250 NARs were complete; the root is one of them, and waits for the others.
      assert.equal((await assertSound(store, publicKey)).narInfos.length, 249);
      const run = await add([own.many, ...signing(store)]);
      assert.deepEqual([run.event('added')['added'], run.event('added')['hashedBytes']], [12, 0]);
      assert.equal((await assertSound(store, publicKey)).narInfos.length, 261);
    });

    test('not by another add at the same time', async () => {
      const store = await lab.folder('cache');
      await Promise.all([added(store), added(store)]);
      assert.equal((await assertSound(store, publicKey)).narInfos.length, PATHS);
      assert.deepEqual(await readdir(join(store, 'narswarm', 'export')), []);
    });
  });

  describe('refuses', () => {
    const keyFile = async (text: string, mode = 0o600): Promise<string> => {
      const file = lab.path('key');
      await writeFile(file, text);
      await chmod(file, mode);
      return file;
    };

    test('a malformed key, in one sentence that does not show it', async () => {
      const secret = await readFile(secretKey, 'utf8');
      for (const text of ['', 'garbage', 'own-1:c2hvcnQ=', publicKey, `${secret.slice(0, -6)}AAAA==`]) {
        const file = await keyFile(text);
        const run = await add([own.root, '--store', lab.path('cache'), '--sign-key', file]);
        assertFailure(
          run,
          2,
          'KEY_INVALID',
          new RegExp(`${file} is not a secret key of Nix: .*generate-binary-cache-key`),
        );
        assert.ok(text === '' || !run.stderr.includes(text.split(':')[1] ?? text));
      }
      const missing = lab.path('key');
      const args = [own.root, '--store', lab.path('cache'), '--sign-key', missing];
      assertFailure(
        await add(args),
        3,
        'NOT_FOUND',
        new RegExp(`there is no secret key ${missing}: make one with nix-store`),
      );
    });

    test('nothing if others can read the key, but warns', async () => {
      const file = await keyFile(await readFile(secretKey, 'utf8'), 0o644);
      const run = await add([own.root, '--store', await lab.folder('cache'), '--sign-key', file]);
      assert.equal(run.status, 0, run.stderr);
      assert.equal(run.event('warning')['message'], `${file} can be read by others: chmod 600 ${file}`);
    });

    test('paths that do not exist, are elsewhere or are not valid', async () => {
      const absent = '/nix/store/00000000000000000000000000000000-absent';
      const dangling = lab.path('result');
      await symlink('nowhere', dangling);
      for (const [path, status, code, says] of [
        [absent, 3, 'NOT_FOUND', new RegExp(`${absent} is not valid in the Nix store of this machine: build it first`)],
        ['nixpkgs#hello', 3, 'NOT_FOUND', /"nixpkgs#hello" does not lead to a store path: .* does not exist/],
        [dangling, 3, 'NOT_FOUND', /does not lead to a store path: .*nowhere does not exist/],
        ['/nix/store/short-name', 2, 'STORE_PATH_INVALID', /"\/nix\/store\/short-name" is not a store path/],
        [secretKey, 2, 'STORE_PATH_INVALID', /is not in \/nix\/store: name a store path, or a link to one/],
      ] as const) {
        const store = lab.path('cache');
        assertFailure(await add([own.root, path, ...signing(store)]), status, code, says);
        await assert.rejects(stat(store), /ENOENT/);
      }
    });

    test('to work without Nix', async () => {
      const args = [own.root, ...signing(lab.path('cache'))];
      const env = { PATH: await lab.folder('empty') };
      assertFailure(await add(args, { env }), 8, 'NIX_MISSING', /there is no `nix-store` in PATH: install Nix/);
    });

    test('to continue after Nix fails, and repeats its words', async () => {
      const args = [own.root, ...signing(lab.path('cache'))];
      const env = { NIX_REMOTE: 'no-such-store://' };
      assertFailure(await add(args, { env }), 8, 'NIX_FAILED', /nix failed: .*no-such-store/);
    });

    test('a store for another store directory, and an unknown compression', async () => {
      const store = await lab.folder('cache');
      await writeFile(join(store, 'nix-cache-info'), 'StoreDir: /other/store\n');
      const run = await add([own.root, ...signing(store)]);
      assertFailure(run, 7, 'STORE_CORRUPT', /is for the store \/other\/store, not for \/nix\/store/);
      const odd = await add([own.root, ...signing(store), '--compression', 'rar']);
      assert.equal(odd.status, 2);
      assert.match(odd.stderr, /Allowed are zstd, zstd:1 to zstd:19, xz and none/);
    });
  });
});
