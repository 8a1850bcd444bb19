/** Outputs of content-addressed derivations: without their realisations, the next machine would build them again. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execa } from 'execa';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, Lab, mirrorOf, type Run } from '../support/lab.ts';

const EXPRESSION = `let
  make = name: script: more: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ];
  } // more);
  floating = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
in rec {
  plain = make "plain" "echo plain > $out" { };
  dep = make "dep" "echo \${plain} > $out; echo dev > $dev" (floating // { outputs = [ "out" "dev" ]; });
  app = make "app" "echo \${dep} \${dep.dev} > $out" floating;
}
`;

describe('realisations', { concurrency: 4 }, () => {
  let lab: Lab;
  let expression: string;
  let cacheDir: string;
  let app: string;
  let key: string;
  /** A machine that has evaluated, and so has the .drv files. */
  let evaluated: Record<string, string>;
  let builder: Record<string, string>;
  let realisations: readonly string[];

  before(async () => {
    lab = await Lab.open();
    const dir = await lab.folder('make');
    expression = join(dir, 'default.nix');
    cacheDir = join(dir, 'cache');
    await writeFile(expression, EXPRESSION);
    const [secret, shared] = [join(dir, 'secret'), join(dir, 'public')];
    assert.equal(spawnSync('nix-store', ['--generate-binary-cache-key', 'own-1', secret, shared]).status, 0);
    key = (await readFile(shared, 'utf8')).trim();
    builder = machine(join(dir, 'store'), `secret-key-files = ${secret}`);
    nix(builder, ['build', '--no-link', '-f', expression, 'app']);
    nix(builder, ['copy', '--to', `file://${cacheDir}`, '-f', expression, 'app']);
    evaluated = machine(await lab.folder('store'));
    nix(evaluated, ['eval', '--raw', '-f', expression, 'app.drvPath']);
    realisations = await readdir(join(cacheDir, 'realisations'));
    assert.equal(realisations.length, 4);
    const infos = (await readdir(cacheDir)).filter((name) => name.endsWith('.narinfo'));
    const texts = await Promise.all(infos.map((name) => readFile(join(cacheDir, name), 'utf8')));
    app = /^StorePath: (.*-app)$/m.exec(texts.join(''))?.[1] ?? '';
  });
  after(() => lab[Symbol.asyncDispose]());

  /** The environment of a machine with a Nix store of its own. */
  function machine(store: string, more = ''): Record<string, string> {
    const settings = [
      'experimental-features = nix-command ca-derivations',
      'build-users-group =',
      'sandbox-paths = /bin/sh /lib /lib64',
      'substituters =',
      `trusted-public-keys = ${key ?? ''}`,
      more,
    ];
    return { ...lab.env, NIX_REMOTE: `local?root=${store}`, NIX_CONFIG: settings.join('\n') };
  }

  /** The command of a machine that may not build. Its substituters follow. */
  const building = (): string[] => `build --no-link -f ${expression} app --max-jobs 0 --option substituters`.split(' ');
  /** Returns true if a machine that may not build gets the output from that file store. */
  const isBuilt = async (store: string): Promise<boolean> =>
    run(machine(await lab.folder('next')), [...building(), `file://${store}`]).status === 0;
  const fetch = (store: string, args: readonly string[], env: Record<string, string>): Promise<Run> =>
    lab.run(['fetch', '--store', store, '--no-copy', '--trusted-public-key', key, ...ALONE, ...args], { env });
  const cacheWith = async (change: (dir: string) => Promise<void>): Promise<string> => {
    const dir = await lab.folder('cache');
    await cp(cacheDir, dir, { recursive: true });
    await change(dir);
    return lab.use(await startHttpCache(dir)).url;
  };

  test('realisations of a cache are fetched if their derivations are known, and make a build unnecessary', async () => {
    const store = await lab.folder('store');
    const from = ['--from', await cacheWith(() => Promise.resolve())];
    const fetched = await fetch(store, [app, ...from], evaluated);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.deepEqual((await readdir(join(store, 'realisations'))).toSorted(), realisations.toSorted());
    assert.equal(await isBuilt(store), true);
    await rm(join(store, 'realisations'), { recursive: true });
    assert.equal(await isBuilt(store), false);
  });

  test('a hash map brings the realisations of its paths, without caches and derivations', async () => {
    const publisher = await lab.folder('store');
    await cp(cacheDir, publisher, { recursive: true });
    const what = ['--store', publisher, '--root', `app=${app}`, '--key', lab.path('key'), '--trusted-public-key', key];
    const { ready } = await lab.service(['publish', ...what, ...ALONE]);
    const mirror = mirrorOf(String(ready['address']), `http://127.0.0.1:${String(ready['httpPort'])}`);
    const store = await lab.folder('store');
    const peer = ['--publisher', mirror, '--peer', `127.0.0.1:${String(ready['port'])}`, '--no-upstream'];
    const fetched = await fetch(store, ['app', ...peer], machine(await lab.folder('empty')));
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.deepEqual((await readdir(join(store, 'realisations'))).toSorted(), realisations.toSorted());
    assert.equal(await isBuilt(store), true);
  });

  test('a daemon gives Nix the realisations of its cache, and keeps them', async () => {
    const store = await lab.folder('store');
    const cache = lab.use(await startHttpCache(cacheDir));
    const listen = ['--substituter-listen', '127.0.0.1', '--substituter-port', '0'];
    const isBuiltBy = async (sources: readonly string[]): Promise<boolean> => {
      const args = ['daemon', '--store', store, '--trusted-public-key', key, ...listen, ...sources, ...ALONE];
      const { process: daemon, ready } = await lab.service(args);
      const [url = ''] = ready['substituters'] as readonly string[];
      const env = { ...machine(await lab.folder('next')), XDG_CACHE_HOME: await lab.folder('cache') };
      const { exitCode } = await execa('nix', [...building(), url], { env, extendEnv: false, reject: false });
      assert.equal((await daemon.stop()).status, 0);
      return exitCode === 0;
    };
    assert.equal(await isBuiltBy(['--from', cache.url]), true);
    assert.equal(await isBuiltBy(['--no-upstream']), true);
  });

  test('a realisation without a trusted signature, or of another output, is left out', async () => {
    const store = await lab.folder('store');
    const [first = '', second = ''] = realisations;
    const url = await cacheWith(async (dir) => {
      const file = join(dir, 'realisations', first);
      await writeFile(file, (await readFile(file, 'utf8')).replace(/"signatures":\[[^\]]*\]/, '"signatures":[]'));
      await cp(join(dir, 'realisations', realisations[2] ?? ''), join(dir, 'realisations', second));
    });
    const fetched = await fetch(store, [app, '--from', url], evaluated);
    assert.equal(fetched.status, 0, fetched.stderr);
    for (const name of await readdir(join(store, 'realisations'))) assert(![first, second].includes(name), name);
    assert.equal(await isBuilt(store), false);
  });

  test('an update finds the path of an evaluated output by its realisation', async () => {
    const config = lab.path('config.toml');
    await writeFile(config, `[subscriptions.s]\nsource = "app"\nfile = "${expression}"\n`);
    const url = await cacheWith(() => Promise.resolve());
    const store = await lab.folder('store');
    const what = ['--config', config, '--store', store, '--trusted-public-key', key, '--from', url];
    const updated = await lab.run(['update', ...what, ...ALONE], { env: machine(await lab.folder('store')) });
    assert.equal(updated.status, 0, updated.stderr);
    assert.equal(updated.event('subscription')['paths'], 4);
    assert.deepEqual((await readdir(join(store, 'realisations'))).toSorted(), realisations.toSorted());
    assert.equal(await isBuilt(store), true);
  });

  test('add exports the realisations of its paths, signed', async () => {
    const store = await lab.folder('store');
    const { publicKey, secretKeyFile } = await lab.closure([10], 'other');
    const what = ['add', app, '--store', store, '--sign-key', secretKeyFile, '--trusted-public-key', publicKey];
    const added = await lab.run(what, { env: builder });
    assert.equal(added.status, 0, added.stderr);
    const names = new Set(await readdir(join(store, 'realisations'))); // those of resolved derivations, too
    for (const name of realisations) assert(names.has(name), name);
    const trusting = [...building(), `file://${store}`, '--option', 'trusted-public-keys', publicKey];
    nix(machine(await lab.folder('next')), trusting);
  });

  test('a cache that fails to give realisations fails no fetch', async () => {
    const dir = await lab.folder('cache');
    await cp(cacheDir, dir, { recursive: true });
    const cache = lab.use(await startHttpCache(dir));
    cache.faults = [{ match: /realisations|build-trace/, kind: 'status', status: 500 }];
    const fetched = await fetch(await lab.folder('store'), [app, '--from', cache.url], evaluated);
    assert.equal(fetched.status, 0, fetched.stderr);
  });
});

function run(
  env: Record<string, string>,
  args: readonly string[],
): { status: number | null; stdout: string; stderr: string } {
  return spawnSync('nix', args, { encoding: 'utf8', env });
}

/** Returns the output of the real Nix. Fails the test if Nix fails. */
function nix(env: Record<string, string>, args: readonly string[]): string {
  const { status, stdout, stderr } = run(env, args);
  assert.equal(status, 0, stderr);
  return stdout;
}
