/** The hook that notes builds, and the script that exports them: with the real Nix, and in the NixOS module. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { useNixFolder } from '../support/nix-folder.ts';
import { evaluate, service, type Evaluated } from './module-cases.ts';
import { LIBS } from './nix-eval.ts';

const example = (name: string): string => fileURLToPath(new URL(`../../nix/examples/${name}`, import.meta.url));
const HOOK = example('post-build-hook.sh');
const ADD_BUILT = example('add-built.sh');

suite('builds that the hook notes', () => {
  let spool = '';
  let calls = '';
  const { fakeProgram } = useNixFolder((folder) => {
    spool = join(folder, 'spool');
    calls = join(folder, 'calls');
    process.env['NARSWARM_SPOOL'] = spool;
  });

  const note = async (drv: string, outputs: string | undefined): Promise<void> => {
    const env = { DRV_PATH: drv, ...(outputs !== undefined && { OUT_PATHS: outputs }) };
    await execa('sh', [HOOK], { env });
  };
  const notes = (): Promise<string[]> => readdir(join(spool, 'new'));
  const added = async (): Promise<string[]> =>
    (await readFile(calls, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '');
  /** Takes the place of narswarm, and writes its arguments. */
  const fakeNarswarm = (status = 0): void => fakeProgram('narswarm', `echo "$@" >> ${calls}; exit ${status}`);
  /** A store in which every path is valid but those that are gone. */
  const fakeStore = (): void =>
    fakeProgram('nix-store', 'case "$1$3$2" in --query*) echo "${3%.drv}";; *gone*) exit 1;; esac');

  test('are exported at once, each output only once', async () => {
    fakeNarswarm();
    fakeStore();
    await note('/nix/store/a.drv', '/nix/store/a /nix/store/a-dev');
    await note('/nix/store/b.drv', '/nix/store/b');
    await note('/nix/store/b.drv', '/nix/store/b');
    await execa('sh', [ADD_BUILT, '--sign-key', '/k']);
    assert.deepEqual(await added(), ['add --sign-key /k /nix/store/a /nix/store/a-dev /nix/store/b']);
    assert.deepEqual(await notes(), []);
    await execa('sh', [ADD_BUILT]);
    assert.equal((await added()).length, 1, 'nothing is exported again');
  });

  test('are found by their derivation if Nix does not name their outputs', async () => {
    fakeNarswarm();
    fakeStore();
    await note('/nix/store/a.drv', '');
    await note('/nix/store/b.drv', undefined);
    await execa('sh', [ADD_BUILT]);
    assert.deepEqual(await added(), ['add /nix/store/a /nix/store/b']);
  });

  test('are left out if they are no longer there', async () => {
    fakeNarswarm();
    fakeStore();
    await note('/nix/store/a.drv', '/nix/store/a /nix/store/gone');
    await execa('sh', [ADD_BUILT]);
    assert.deepEqual(await added(), ['add /nix/store/a']);
  });

  test('are exported by the next run if add fails', async () => {
    fakeNarswarm(7);
    fakeStore();
    await note('/nix/store/a.drv', '/nix/store/a');
    const { exitCode } = await execa('sh', [ADD_BUILT], { reject: false });
    assert.deepEqual([exitCode, await notes()], [7, []], 'a path unit would start it again at once');
    fakeNarswarm();
    await note('/nix/store/b?c.drv', '/nix/store/b?c');
    await execa('sh', [ADD_BUILT]);
    assert.equal((await added())[1], 'add /nix/store/a /nix/store/b?c');
  });

  test('do not fail if there is no spool', async () => {
    await writeFile(spool, 'a file');
    const { exitCode, stderr } = await execa('sh', [HOOK], { env: { DRV_PATH: '/nix/store/a.drv' } });
    assert.equal(exitCode, 0);
    assert.match(stderr, /cannot note \/nix\/store\/a\.drv/);
  });

  test('come from the real Nix', async () => {
    fakeNarswarm();
    const build = `derivation { name = "own"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }`;
    const args = ['--expr', build, '--no-out-link', '--option', 'post-build-hook', HOOK];
    await mkdir(spool);
    const { stdout } = await execa('nix-build', args);
    const [name, ...others] = await notes();
    assert.match(name ?? '', /^[0-9a-z]{32}-own\.drv$/);
    assert.deepEqual(others, []);
    await execa('sh', [ADD_BUILT]);
    assert.deepEqual(await added(), [`add ${stdout.trim()}`]);
  });
});

for (const [title, lib] of LIBS) {
  suite(`the hook of the NixOS module, ${title}`, () => {
    let seen: Readonly<Record<'bare' | 'hook' | 'exposed', Evaluated>>;
    before(() => {
      const hook =
        'services.narswarm = { enable = true; postBuildHook = { enable = true; signKeyFile = "/k/lab"; }; };';
      seen = evaluate(
        {
          bare: '{ services.narswarm.enable = true; }',
          hook: `{ ${hook} }`,
          exposed: `{ ${hook.replace('/k/lab', '/nix/store/lab')} }`,
        },
        lib,
      );
    });

    test('is there only if asked for', () => {
      assert.ok(!('post-build-hook' in seen.bare.nix));
      assert.deepEqual([seen.bare.paths, seen.bare.tmpfiles], [{}, {}]);
      assert.match(String(seen.hook.nix['post-build-hook']), /-narswarm-post-build-hook$/);
    });

    test('a path unit exports what it notes, signed, as the user of the other units', () => {
      assert.deepEqual(seen.hook.paths['narswarm-built']?.pathConfig, { DirectoryNotEmpty: '/var/spool/narswarm/new' });
      const { serviceConfig, environment } = service(seen.hook, 'narswarm-built');
      assert.match(String(serviceConfig['ExecStart']), /-narswarm-add-built --sign-key %d\/sign-key$/);
      assert.deepEqual(serviceConfig['LoadCredential'], ['sign-key:/k/lab']);
      assert.deepEqual(serviceConfig['ReadWritePaths'], ['/var/spool/narswarm']);
      assert.equal(serviceConfig['User'], 'narswarm');
      assert.equal(environment['NARSWARM_SPOOL'], '/var/spool/narswarm');
      const owned = { d: { user: 'narswarm', group: 'narswarm', mode: '0750' } };
      assert.deepEqual(seen.hook.tmpfiles['narswarm'], {
        '/var/spool/narswarm': owned,
        '/var/spool/narswarm/new': owned,
      });
      assert.match(seen.exposed.refusals.join(), /\/nix\/store\/lab is for a secret/);
    });
  });
}
