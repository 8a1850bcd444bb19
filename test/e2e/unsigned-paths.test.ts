/** Caches with unsigned, content-addressed sources, which Nix and narswarm accept. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, Lab, mirrorOf, readNarInfos, requisites, type Run } from '../support/lab.ts';

const NO_KEY = `nobody-1:${Buffer.alloc(32, 1).toString('base64')}`;

describe('unsigned paths', { concurrency: 4 }, () => {
  let lab: Lab;
  /** A cache of a builder with `secret-key-files`, its root and its key. */
  let built: { readonly dir: string; readonly root: string; readonly key: string };
  /** A cache of sources only, as `nix flake archive --to` makes it. */
  let sources: { readonly dir: string; readonly paths: readonly string[] };

  before(async () => {
    lab = await Lab.open();
    const dir = await lab.folder('make');
    const [secret, shared] = [join(dir, 'secret'), join(dir, 'public')];
    assert.equal(spawnSync('nix-store', ['--generate-binary-cache-key', 'own-1', secret, shared]).status, 0);
    await mkdir(join(dir, 'conf'));
    await writeFile(join(dir, 'conf', 'x'), 'a source\n');
    const expression = `derivation { name = "app"; system = builtins.currentSystem; builder = "/bin/sh";
      args = [ "-c" "echo \${${dir}/conf} \${builtins.toFile "text" "a text"} > $out" ]; }`;
    const env = machine(join(dir, 'store'), `secret-key-files = ${secret}`);
    await writeFile(join(dir, 'default.nix'), expression);
    nix(env, ['build', '--no-link', '-f', join(dir, 'default.nix')]);
    const root = nix(env, ['eval', '--raw', '-f', join(dir, 'default.nix'), 'outPath']);
    nix(env, ['copy', '--to', `file://${dir}/cache`, root]);
    built = { dir: join(dir, 'cache'), root, key: (await readFile(shared, 'utf8')).trim() };

    const paths = [
      nix(env, ['store', 'add-path', join(dir, 'conf')]),
      nix(env, ['store', 'add-file', join(dir, 'conf/x')]),
    ];
    nix(env, ['copy', '--to', `file://${dir}/sources`, ...paths]);
    sources = { dir: join(dir, 'sources'), paths };
  });
  after(() => lab[Symbol.asyncDispose]());

  function machine(store: string, more = ''): Record<string, string> {
    const settings = [
      'experimental-features = nix-command',
      'build-users-group =',
      'sandbox-paths = /bin/sh /lib /lib64',
    ];
    return {
      ...lab.env,
      NIX_REMOTE: `local?root=${store}`,
      NIX_CONFIG: [...settings, 'substituters =', more].join('\n'),
    };
  }

  const serve = async (dir: string, change?: (dir: string) => Promise<void>): Promise<HttpCache> => {
    const copy = await lab.folder('cache');
    await cp(dir, copy, { recursive: true });
    await change?.(copy);
    return lab.use(await startHttpCache(copy));
  };
  const fetch = (args: readonly string[], key: string, to: string, store: string): Promise<Run> =>
    lab.run(['fetch', ...args, '--store', store, '--to', to, '--trusted-public-key', key, ...ALONE]);
  /** Publishes a folder, and returns the flags of a machine without other sources. */
  const publish = async (dir: string, args: readonly string[]): Promise<string[]> => {
    const store = await lab.folder('store');
    await cp(dir, store, { recursive: true });
    const { ready, process } = await lab.service([
      'publish',
      '--store',
      store,
      '--key',
      lab.path('key'),
      ...args,
      ...ALONE,
    ]);
    assert.equal((await process.event('built'))['leftOut'], 0);
    const mirror = mirrorOf(String(ready['address']), `http://127.0.0.1:${String(ready['httpPort'])}`);
    return ['--publisher', mirror, '--peer', `127.0.0.1:${String(ready['port'])}`, '--no-upstream'];
  };

  test('all paths of a builder with secret-key-files are fetched and published', async () => {
    const unsigned = [...(await readNarInfos(built.dir)).values()].filter(({ signatures }) => signatures.length === 0);
    assert.equal(unsigned.length, 2);
    const [target, store] = [await lab.folder('target'), await lab.folder('store')];
    const run = await fetch([built.root, '--from', (await serve(built.dir)).url], built.key, target, store);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(requisites(target, built.root).length, 3);
    for (const roots of [['--root', `app=${built.root}`], []]) {
      const from = await publish(built.dir, ['--trusted-public-key', built.key, ...roots]);
      const other = await lab.folder('target');
      const followed = await fetch([built.root, ...from], built.key, other, await lab.folder('store'));
      assert.equal(followed.status, 0, followed.stderr);
      assert.equal(requisites(other, built.root).length, 3);
    }
  });

  test('sources are fetched without any key, and published by name', async () => {
    const target = await lab.folder('target');
    const { url } = await serve(sources.dir);
    const run = await fetch([...sources.paths, '--from', url], NO_KEY, target, await lab.folder('store'));
    assert.equal(run.status, 0, run.stderr);
    for (const path of sources.paths) assert.equal(requisites(target, path).length, 1);

    const roots = sources.paths.flatMap((path, index) => ['--root', `input-${index}=${path}`]);
    const from = await publish(sources.dir, ['--trusted-public-key', NO_KEY, ...roots]);
    const other = await lab.folder('target');
    const followed = await fetch(['input-0', 'input-1', ...from], NO_KEY, other, await lab.folder('store'));
    assert.equal(followed.status, 0, followed.stderr);
    const what = ['--store', sources.dir, '--key', lab.path('key'), '--trusted-public-key', NO_KEY, '--once'];
    assertFailure(await lab.run(['publish', ...what]), 3, 'NOT_FOUND', /unsigned, and neither named .* --root NAME=/);
  });

  const lies: Record<string, (text: string) => string> = {
    'an address of something else': (text) => text.replace(/^CA: (.*:)./m, (_, kind: string) => `CA: ${kind}0`),
    'another NarHash': (text) => text.replace(/^NarHash: sha256:.{52}/m, `NarHash: sha256:${'0'.repeat(52)}`),
    'another reference': (text) => text.replace(/^References: .*/m, `References: ${'0'.repeat(32)}-x`),
    'no address': (text) => text.replace(/^CA: .*\n/m, ''),
  };
  for (const [how, change] of Object.entries(lies)) {
    test(`a lie about an unsigned path costs only a retry at the next cache: ${how}`, async () => {
      const [path = ''] = sources.paths; // a tree: its address is its NarHash
      const liar = await serve(sources.dir, async (dir) => {
        const file = join(dir, `${path.slice('/nix/store/'.length).slice(0, 32)}.narinfo`);
        await writeFile(file, change(await readFile(file, 'utf8')));
      });
      const [target, store] = [await lab.folder('target'), await lab.folder('store')];
      const refused = await fetch([path, '--from', liar.url], NO_KEY, target, store);
      assertFailure(refused, 4, 'NARINFO_UNTRUSTED', /is not signed/);
      const honest = await serve(sources.dir);
      const run = await fetch([path, '--from', liar.url, '--from', honest.url], NO_KEY, target, store);
      assert.equal(run.status, 0, run.stderr);
      assert.equal(requisites(target, path).length, 1);
    });
  }
});

/** Returns the output of the real Nix. Fails the test if Nix fails. */
function nix(env: Record<string, string>, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync('nix', args, { encoding: 'utf8', env });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}
