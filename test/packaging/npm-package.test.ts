/** The npm package: made by `npm pack`, installed without a network, and run where the checkout cannot be seen. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { inNamespace } from '../support/namespace.ts';
import '../support/test-nix.ts';

const TOP = fileURLToPath(new URL('../..', import.meta.url));
/** Pretends to be an older Node. */
const OLDER_NODE = `data:text/javascript,Object.defineProperty(process,'versions',{value:{node:'22.1.0'}})`;

/** Matches imports as rolldown writes them, but not those of code that ajv could write. */
const IMPORT = /(?<!`)\b(?:__)?require\("([^"\n]+)"\)|\bimport\("([^"\n]+)"\)/g;

type Manifest = Readonly<Record<string, unknown>> & { readonly files: readonly string[]; readonly version: string };

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const readManifest = async (folder: string): Promise<Manifest> =>
  JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Manifest;

describe('the npm package', () => {
  let dir: string;
  /** A copy of the checkout: packing changes its package.json for a moment. */
  let source: string;
  let installed: string;
  /** A Node outside of the checkout. */
  let node: string;
  let installation: Ended;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-npm-'));
    source = join(dir, 'source');
    const manifest = await readManifest(TOP);
    const files = manifest.files.filter((name) => name !== 'dist');
    for (const name of ['src', 'packaging', 'nix', 'package.json', '.npmrc', 'rolldown.config.ts', ...files])
      await cp(join(TOP, name), join(source, name), { recursive: true });
    await symlink(join(TOP, 'node_modules'), join(source, 'node_modules'));
    const packed = run(source, 'npm', 'pack', '--silent', '--pack-destination', dir);
    assert.equal(packed.status, 0, packed.stderr);

    node = join(dir, 'node', 'node');
    await mkdir(dirname(node));
    await copyFile(process.execPath, node);
    const from = ['--offline', '--cache', join(dir, 'empty-cache'), join(dir, `narswarm-${manifest.version}.tgz`)];
    installation = run(
      dir,
      ...inNamespace('-n'),
      'npm',
      'install',
      '--global',
      '--prefix',
      join(dir, 'prefix'),
      ...from,
    );
    installed = join(dir, 'prefix/lib/node_modules/narswarm');
  });
  after(async () => {
    spawnSync('chmod', ['-R', 'u+w', dir]);
    await rm(dir, { recursive: true, force: true });
  });

  function run(cwd: string, file: string, ...args: readonly string[]): Ended {
    const bin = node === undefined ? dirname(process.execPath) : dirname(node);
    const PATH = `${bin}${delimiter}${process.env['PATH'] ?? ''}`;
    return spawnSync(file, args, { cwd, encoding: 'utf8', env: { PATH, HOME: dir, LC_ALL: 'C' } });
  }

  /** Runs an installed program by its name, with an empty folder in place of the checkout. */
  function runInstalled(program: string, ...args: readonly string[]): Ended {
    const covered = ['sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"', TOP, join(dir, 'prefix/bin', program)];
    return run(dir, ...inNamespace('-m'), ...covered, ...args);
  }

  test('installs without a network, as one package without scripts', async () => {
    assert.equal(installation.status, 0, installation.stderr);
    assert.match(installation.stdout, /added 1 package\b/);
    assert.deepEqual(await readdir(join(dir, 'prefix/lib/node_modules')), ['narswarm']);
    assert.ok(!existsSync(join(installed, 'node_modules')));
    const { dependencies, devDependencies, scripts, ...rest } = await readManifest(installed);
    assert.deepEqual([dependencies, devDependencies, scripts], [undefined, undefined, undefined]);
    assert.deepEqual(rest['engines'], { node: '>=24' });
  });

  test('has the whole bundle and the licences of all that is in it', async () => {
    assert.deepEqual(await readdir(join(installed, 'dist')), await readdir(join(source, 'dist')));
    const licences = await readFile(join(installed, 'dist/THIRD-PARTY-LICENSES'), 'utf8');
    for (const name of ['webtorrent', 'bittorrent-dht', 'valibot', 'execa'])
      assert.match(licences, new RegExp(`^${name} \\d[^]*?(MIT|Permission is hereby granted)`, 'm'));
    assert.doesNotMatch(licences, /^(rolldown|typescript) \d/m, 'tools are not in the bundle');
  });

  test('imports only Node’s own modules', async () => {
    const files = (await readdir(join(installed, 'dist'))).filter((name) => name.endsWith('.js'));
    const texts = await Promise.all(files.map((name) => readFile(join(installed, 'dist', name), 'utf8')));
    const names = texts.flatMap((text) => [...text.matchAll(IMPORT)].flatMap(([, ...found]) => found.filter(Boolean)));
    assert.ok(names.includes('node:net') && names.includes('tty'), 'the pattern finds imports');
    const others = names.filter((name) => name !== undefined && !/^(\.|node:)/.test(name) && !isBuiltin(name));
    assert.deepEqual(others, ['supports-color'], 'debug looks for colours, and does without');
  });

  test('its sources are ASCII, so that V8 keeps them in one byte a character', async () => {
    const files = (await readdir(join(installed, 'dist'))).filter((name) => name.endsWith('.js'));
    const texts = await Promise.all(files.map((name) => readFile(join(installed, 'dist', name), 'utf8')));
    assert.deepEqual(
      // oxlint-disable-next-line no-control-regex -- ASCII has them
      files.filter((_, at) => /[^\0-\x7f]/.test(texts[at] ?? '')),
      [],
    );
  });

  test('packing leaves package.json as it was, even after one that was killed', async () => {
    const whole = await readFile(join(TOP, 'package.json'), 'utf8');
    assert.equal(await readFile(join(source, 'package.json'), 'utf8'), whole);
    for (const word of ['reduce', 'reduce', 'restore', 'restore']) {
      const { status, stderr } = run(source, process.execPath, 'packaging/manifest.ts', word);
      assert.equal(status, 0, stderr);
    }
    assert.equal(await readFile(join(source, 'package.json'), 'utf8'), whole);
  });

  test('does the main job where the checkout cannot be seen', () => {
    const demo = runInstalled('narswarm', 'demo', '--json');
    assert.equal(demo.status, 0, demo.stderr);
    const done = JSON.parse(demo.stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
    const { event, paths, imported, upstreamBytesMeanwhile } = done;
    assert.deepEqual(
      { event, paths, imported, upstreamBytesMeanwhile },
      {
        event: 'done',
        paths: 40,
        imported: 40,
        upstreamBytesMeanwhile: 0,
      },
    );
  });

  test('is started by its own name, and by Lix’s', async () => {
    const { version } = await readManifest(TOP);
    for (const program of ['narswarm', 'lix-narswarm']) {
      const { stdout, stderr } = runInstalled(program, '--version');
      assert.equal(stdout, `${version}\n`, stderr);
    }
    assert.match(await readFile(join(dir, 'prefix/share/man/man1/narswarm.1'), 'utf8'), /^\.TH "NARSWARM" 1/);
  });

  test('an older Node is refused in one sentence', () => {
    const { status, stderr } = run(dir, node, '--import', OLDER_NODE, join(installed, 'dist/main.js'), '--version');
    assert.deepEqual([status, stderr.split('\n').length], [2, 2]);
    assert.match(stderr, /^error: narswarm needs Node 24 or newer, this is 22\.1\.0: install a newer one/);
  });
});
