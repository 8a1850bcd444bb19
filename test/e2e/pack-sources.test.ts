/** What a rebuild without internet needs goes onto the disk, too: the sources of builds, and the inputs of a flake. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import { cacheModel, modelFlake } from '../support/model-flake.ts';
import { ReadyHost } from '../support/ready-host.ts';
import { ALONE, assertFailure, Lab, readNarInfos, requisites } from '../support/lab.ts';

describe('pack for a rebuild without internet', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([5_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const trust = (): string[] => ['--trusted-public-key', made.publicKey];
  /** Unpacks a disk and imports from it. Returns the Nix store. */
  const unpacked = async (disk: string): Promise<string> => {
    const [store, target] = [await lab.folder('store'), await lab.folder('target')];
    const run = await lab.run(['unpack', disk, '--store', store, '--import', '--to', target, ...trust()]);
    assert.equal(run.status, 0, run.stderr);
    return target;
  };
  const namesIn = async (dir: string): Promise<string[]> =>
    [...(await readNarInfos(dir)).values()].map(({ storePath }) => storePath.slice(44)).toSorted();

  test('--sources adds the fixed-output sources, or says that they are not known', async () => {
    const dir = await lab.folder('builds');
    const file = join(dir, 'builds.nix');
    const sha256 = createHash('sha256').update('fetched once\n').digest('hex');
    await writeFile(
      file,
      `rec {
  source = derivation {
    name = "source.tar"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo fetched once > $out" ];
    outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "${sha256}";
  };
  top = derivation {
    name = "top"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "read x < \${source}; echo $x > $out" ];
  };
}
`,
    );
    const config = `experimental-features = nix-command\nsubstitute = false\nbuild-users-group =\nsandbox-paths = ${sandboxPaths()}`;
    const nix = async (command: string, args: readonly string[]): Promise<string> =>
      (await execa(command, args, { env: { HOME: dir, LC_ALL: 'C', NIX_CONFIG: config } })).stdout.trim();
    const store = ['--store', made.buildStore];
    const built = await nix('nix-build', [file, '-A', 'source', '-A', 'top', '--no-out-link', '--quiet', ...store]);
    const [, top = ''] = built.split('\n');
    await nix('nix', ['store', 'sign', ...store, '--key-file', made.secretKeyFile, ...built.split('\n')]);
    await nix('nix', ['copy', '--from', made.buildStore, '--to', `file://${made.cacheDir}`, ...built.split('\n')]);

    const env = { NIX_REMOTE: `local?root=${made.buildStore}` };
    const flags = ['--from', made.cacheDir, '--trusted-public-key', made.publicKey, '--scope', 'off', ...ALONE];
    const pack = async (what: readonly string[], to: string, own: Record<string, string> = env) =>
      lab.run(['pack', ...what, to, '--store', join(dir, 'store'), ...flags], { env: own });
    const [alone, whole, known] = [await lab.folder('usb'), await lab.folder('usb'), await lab.folder('usb')];
    assert.equal((await pack(['-f', file, 'top'], alone)).status, 0);
    assert.deepEqual(await namesIn(alone), ['top']);
    const run = await pack(['-f', file, 'top', '--sources'], whole);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(await namesIn(whole), ['source.tar', 'top']);
    assert.equal((await pack([top, '--sources'], known)).status, 0, 'Nix knows how it was built');
    assert.deepEqual(await namesIn(known), ['source.tar', 'top']);
    const stranger = { NIX_REMOTE: `local?root=${await lab.folder('empty')}` };
    assertFailure(
      await pack([top, '--sources'], known, stranger),
      3,
      'NOT_FOUND',
      /has no derivation of it: name an installable/,
    );
  });

  test('a subscription that is ready for a rebuild has everything; what is only in the Nix store is exported first', async () => {
    const model = await modelFlake(await lab.folder('model'));
    lab.use(model.site);
    const { lost, tool } = await cacheModel(made, model);
    const host = await ReadyHost.make(lab, made);
    await host.machine.subscribe('system', host.system, '--import', '--ready', '--sources');
    assert.equal((await host.machine.updated())['outcome'], 'complete');
    const usb = await lab.folder('usb');
    const refused = await host.machine.run(['pack', 'system', usb]);
    assertFailure(
      refused,
      5,
      'NAR_UNAVAILABLE',
      /this machine's Nix store has them: narswarm add --store \S+ \/\S+ \/\S+, then run the same/,
    );
    const { paths } = refused.event('error')['facts'] as { paths: string[] };
    assert.ok(paths.includes(lost));
    assert.equal((await host.machine.run(['add', ...paths])).status, 0);
    const packed = await host.machine.run(['pack', 'system', usb]);
    assert.equal(packed.status, 0, packed.stderr);
    const other = await unpacked(usb);
    for (const path of [...paths, tool]) assert.ok(requisites(other, path).includes(path));
  });

  test('the inputs of a flake are paths like others', async () => {
    const dir = await lab.folder('flakes');
    const [input, flake, cache] = [join(dir, 'input'), join(dir, 'flake'), join(dir, 'cache')];
    await Promise.all([input, flake].map((folder) => mkdir(folder)));
    await writeFile(join(input, 'flake.nix'), '{ outputs = _: { word = "hello"; }; }\n');
    await writeFile(
      join(flake, 'flake.nix'),
      `{ inputs.other.url = "path:${input}"; outputs = { other, ... }: { word = other.word; }; }\n`,
    );
    const store = await lab.folder('nix');
    const env = { ...lab.env, HOME: dir, NIX_CONFIG: 'experimental-features = nix-command flakes\nsubstituters =' };
    const nix = async (...args: readonly string[]): Promise<string> =>
      (await execa('nix', [...args, '--store', store], { env })).stdout;
    await nix('flake', 'archive', '--to', `file://${cache}`, flake);
    const archive = JSON.parse(await nix('flake', 'archive', '--json', flake)) as {
      path: string;
      inputs: Record<string, { path: string }>;
    };
    const paths = [archive.path, archive.inputs['other']?.path ?? ''];
    const usb = await lab.folder('usb');
    const flags = ['--store', await lab.folder('store'), '--from', cache, '--scope', 'off', ...ALONE];
    const run = await lab.run(['pack', ...paths, usb, ...flags, ...trust()]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal((await readNarInfos(usb)).size, 2);
    const other = await unpacked(usb);
    for (const path of paths) assert.deepEqual(requisites(other, path), [path]);
    assert.match(await readFile(join(other, paths[1] ?? '', 'flake.nix'), 'utf8'), /word = "hello"/);
  });
});
