/** .drv files as roots and in closures: they are copied, and no version of Nix may build them. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execa } from 'execa';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { assertSound, Lab, requisites } from '../support/lab.ts';

describe('.drv files', () => {
  let lab: Lab;
  let origin: string;
  /** Its build fails, and so does each command that starts it. */
  let drv: string;
  /** A file that refers to the .drv file. */
  let referrer: string;
  let key: string;
  let publicKey: string;
  let env: Record<string, string>;

  before(async () => {
    lab = await Lab.open();
    const dir = await lab.folder('make');
    origin = join(dir, 'origin');
    key = join(dir, 'secret');
    const settings = ['substitute = false', 'build-users-group =', `sandbox-paths = ${sandboxPaths()}`];
    env = { NIX_REMOTE: origin, NIX_CONFIG: settings.join('\n') };
    const nix = async (program: string, ...args: string[]): Promise<string> =>
      (await execa(program, args, { env: { ...lab.env, ...env } })).stdout.trim();
    await writeFile(
      join(dir, 'x.nix'),
      `let build = name: script: derivation {
  inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ];
};
in rec {
  drv = build "fails" "echo \${build "input" "exit 3"} > $out; exit 4";
  referrer = build "refers" "echo \${builtins.unsafeDiscardOutputDependency drv.drvPath} > $out";
}`,
    );
    await nix('nix-store', '--generate-binary-cache-key', 'lab-1', key, join(dir, 'public'));
    publicKey = (await readFile(join(dir, 'public'), 'utf8')).trim();
    drv = await nix('nix-instantiate', join(dir, 'x.nix'), '-A', 'drv', '--quiet');
    referrer = await nix('nix-build', join(dir, 'x.nix'), '-A', 'referrer', '--no-out-link', '--quiet');
  });
  after(() => lab[Symbol.asyncDispose]());

  test('add exports a .drv file, or a path that refers to one, and fetch imports both', async () => {
    for (const root of [drv, referrer]) {
      const store = await lab.folder('added');
      const added = await lab.run(['add', root, '--sign-key', key, '--store', store], { env });
      assert.equal(added.status, 0, added.stderr);
      const wanted = requisites(origin, root);
      assert.equal((await assertSound(store, publicKey)).narInfos.length, wanted.length);

      await using cache = await startHttpCache(store);
      const target = await lab.folder('target');
      const from = ['--from', cache.url, '--trusted-public-key', publicKey];
      const fetched = await lab.run(['fetch', root, ...from, '--store', await lab.folder('store'), '--to', target]);
      assert.equal(fetched.status, 0, fetched.stderr);
      assert.deepEqual(requisites(target, root).toSorted(), wanted.toSorted());
    }
  });

  test('a .drv file and an output may be roots of one fetch', async () => {
    const store = await lab.folder('added');
    await lab.run(['add', referrer, '--sign-key', key, '--store', store], { env });
    const target = await lab.folder('target');
    const flags = ['--no-upstream', '--trusted-public-key', publicKey, '--store', store, '--to', target];
    const fetched = await lab.run(['fetch', drv, referrer, ...flags]);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.ok(requisites(target, referrer).includes(drv));
  });
});
