/** Imports into the real Nix while NARs are still arriving. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import { baseNameOf, parseStorePath } from '../../src/nix/store-path.ts';
import { physicalPath } from '../../src/nix/store-place.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, readNarInfos, requisites } from '../support/lab.ts';
import { WrittenCache } from '../support/written-cache.ts';

const PATHS = 8;

describe('an import beside the download', { concurrency: 4 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let infos: Map<string, NarInfo>;
  let root: NarInfo;
  /** The package that the root refers to. */
  let below: StorePath;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([300_000, 200_000, 100_000, 1_000]);
    infos = await readNarInfos(made.cacheDir);
    const found = infos.get(baseNameOf(made.root).slice(0, 32));
    assert.ok(found);
    root = found;
    below = parseStorePath(`/nix/store/${root.references.find((name) => name.endsWith('-lab-2'))}`);
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = async (): Promise<{ cache: HttpCache; store: string; to: string; args: string[] }> => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const store = await lab.folder('store');
    const to = `local?root=${await lab.folder('target')}`;
    const what = ['fetch', made.root, '--store', store, '--to', to, '--from', cache.url];
    return { cache, store, to, args: [...what, '--trusted-public-key', made.publicKey, ...ALONE] };
  };
  const isValid = (to: string, path: string): boolean =>
    spawnSync('nix-store', ['--store', to, '--check-validity', path]).status === 0;
  /** Lets everything arrive except for the root. */
  const withoutRoot = (cache: HttpCache): void => {
    cache.faults = [{ kind: 'stall-headers', match: new RegExp(basename(root.url)) }];
  };
  const imports = async (dir: string): Promise<string[]> => readdir(join(dir, 'narswarm/import')).catch(() => []);

  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    test(`has all but what is missing, keeps it after ${signal}, and the next run imports the rest`, async () => {
      const { cache, store, to, args } = await scene();
      withoutRoot(cache);
      const run = lab.start(args);
      while (!isValid(to, below)) await sleep(50);
      assert.equal(requisites(to, below).length, PATHS - 2);
      assert.equal(isValid(to, made.root), false);
      const end = await run.stop(signal);
      if (signal === 'SIGINT') {
        assertFailure(end, 130, 'INTERRUPTED', /interrupted/);
        assert.deepEqual(await imports(store), []);
      }
      cache.faults = [];
      const next = await lab.run(args);
      assert.equal(next.status, 0, next.stderr);
      assert.equal(requisites(to, made.root).length, PATHS);
      assert.deepEqual(await imports(store), [], 'nothing is left of either run');
      const { narInfos } = await assertSound(store, made.publicKey, { afterKill: true });
      assert.equal(narInfos.length, PATHS, 'all NARs can be given to others');
    });
  }

  test('that fails leaves all to nix copy', async () => {
    const { to, args } = await scene();
    const env = await withProgram(
      ['nix', 'nix-daemon'],
      'case "$*" in *--no-recursive* | --stdio*) exit 1 ;; esac; PATH=${PATH#*:} exec $name "$@"',
    );
    const run = await lab.run(args, { env });
    assert.equal(run.status, 0, run.stderr);
    assert.equal(requisites(to, made.root).length, PATHS);
  });

  test('that has all there is leaves nothing to nix copy', async () => {
    const { cache, to, args } = await scene();
    const large = Array.from(infos.values()).find(({ narSize }) => narSize > 300_000);
    cache.faults = [
      { kind: 'status', status: 404, match: new RegExp(basename(root.url)) },
      { kind: 'slow', match: new RegExp(basename(large?.url ?? '')), rateBytesPerSec: 100_000 },
    ];
    const log = lab.path('calls-of-the-rest');
    const env = await withProgram(['nix', 'nix-daemon'], `echo "$*" >>${log}; PATH=\${PATH#*:} exec $name "$@"`);
    assertFailure(await lab.run(args, { env }), 5, 'NAR_UNAVAILABLE', /1 of 8 NARs/);
    assert.equal(requisites(to, below).length, PATHS - 2);
    const calls = (await readFile(log, 'utf8')).split('\n');
    const copies = calls.filter((call) => call.includes(' copy '));
    assert.ok(calls.some((call) => call.startsWith('--stdio')));
    assert.deepEqual(
      copies.filter((call) => !call.includes('--no-recursive')),
      [],
    );
  });

  test('is left out with --import-with nix-copy', async () => {
    for (const [way, expected] of [
      ['auto', /^--stdio/m],
      ['nix-copy', /^(?!.*(?:--no-recursive|--stdio))/s],
    ] as const) {
      const { cache, to, args } = await scene();
      const large = Array.from(infos.values()).find(({ narSize }) => narSize > 300_000);
      const match = new RegExp(basename(large?.url ?? ''));
      cache.faults = [{ kind: 'slow', match, rateBytesPerSec: 100_000 }]; // begins beside a slow download with any Nix
      const log = lab.path(`calls-${way}`);
      const env = await withProgram(['nix', 'nix-daemon'], `echo "$*" >>${log}; PATH=\${PATH#*:} exec $name "$@"`);
      const run = await lab.run([...args, '--import-with', way], { env });
      assert.equal(run.status, 0, run.stderr);
      assert.match(await readFile(log, 'utf8'), expected);
      assert.equal(requisites(to, made.root).length, PATHS);
    }
  });

  test('takes NARs from a store with a name that is no part of a URL', async () => {
    for (const way of ['auto', 'nix-copy']) {
      const { store, to, args } = await scene();
      const odd = args.map((arg) => (arg === store ? join(store, 'my disk, 100% ö') : arg));
      const run = await lab.run([...odd, '--import-with', way]);
      assert.equal(run.status, 0, run.stderr);
      assert.equal(requisites(to, made.root).length, PATHS);
      assert.deepEqual(await readdir(store), ['my disk, 100% ö']);
    }
  });

  /** A path of 4 MB that refers to a small one. */
  const largeScene = async (): Promise<{ info: NarInfo; dir: string; store: string; to: string; args: string[] }> => {
    const written = await WrittenCache.create(await lab.folder('written'), 'written-1');
    const small = await written.add('small');
    const contents = randomBytes(2_000_000).toString('hex');
    const { info } = await written.add('large', { contents, references: [small.baseName] });
    const store = await lab.folder('store');
    const to = `local?root=${await lab.folder('target')}`;
    const args = ['fetch', info.storePath, '--store', store, '--to', to, '--trusted-public-key', written.publicKey];
    return { info, dir: written.dir, store, to, args: [...args, ...ALONE] };
  };
  /** Waits until Nix has unpacked some of a path. */
  const someUnpacked = async (to: string, path: string): Promise<void> => {
    const place = physicalPath(parseStorePath(path), to);
    assert.ok(place);
    while ((statSync(place, { throwIfNoEntry: false })?.size ?? 0) < 1_000_000) await sleep(50);
  };

  test('has a large NAR while it arrives, once, and leaves nothing behind after SIGINT', async () => {
    const { info, dir, store, to, args } = await largeScene();
    const cache = lab.use(await startHttpCache(dir));
    cache.faults = [{ kind: 'stall', afterBytes: 1_300_000, match: new RegExp(basename(info.url)), times: 1 }];
    const run = lab.start([...args, '--from', cache.url]);
    await someUnpacked(to, info.storePath);
    assertFailure(await run.stop('SIGINT'), 130, 'INTERRUPTED', /interrupted/);
    assert.deepEqual(await imports(store), []);
    assert.equal(isValid(to, info.storePath), false);
    const log = lab.path('calls-of-large');
    const env = await withProgram(['nix', 'nix-daemon'], `echo "$*" >>${log}; PATH=\${PATH#*:} exec $name "$@"`);
    cache.faults = [{ kind: 'slow', match: new RegExp(basename(info.url)), rateBytesPerSec: 300_000 }];
    const next = lab.start([...args, '--from', cache.url], { env });
    await someUnpacked(to, info.storePath);
    assert.equal(isValid(to, info.storePath), false, 'it has not arrived');
    const { status, stderr } = await next.end();
    assert.equal(status, 0, stderr);
    assert.equal(requisites(to, info.storePath).length, 2);
    assert.doesNotMatch(await readFile(log, 'utf8'), / copy /);
    assert.deepEqual(await imports(store), []);
  });

  test('has a large NAR again if the first bytes came from a liar', async () => {
    const { info, dir, to, args } = await largeScene();
    const match = new RegExp(basename(info.url));
    const liar = lab.use(await startHttpCache(dir));
    liar.faults = [
      { kind: 'corrupt', afterBytes: 700_000, match, times: 1 },
      { kind: 'status', status: 404, match },
    ];
    const cache = lab.use(await startHttpCache(dir));
    cache.faults = [{ kind: 'slow', match, rateBytesPerSec: 1_000_000 }];
    const log = lab.path('calls-after-a-liar');
    const env = await withProgram(['nix', 'nix-daemon'], `echo "$*" >>${log}; PATH=\${PATH#*:} exec $name "$@"`);
    const run = await lab.run([...args, '--from', liar.url, '--from', cache.url], { env });
    assert.equal(run.status, 0, run.stderr);
    assert.equal(requisites(to, info.storePath).length, 2);
    assert.doesNotMatch(await readFile(log, 'utf8'), / copy /);
  });

  /** Puts a script in the place of programs. `$name` in it is the called one. */
  const withProgram = async (names: string | readonly string[], script: string): Promise<Record<string, string>> => {
    const bin = await lab.folder('bin');
    for (const name of [names].flat()) {
      await writeFile(join(bin, name), `#!/bin/sh\nname=${name}\n${script}\n`);
      await chmod(join(bin, name), 0o755);
    }
    return { PATH: `${bin}:${process.env['PATH']}` };
  };
});
