/**
 * The Nix package: each download has a hash and runs no script, and the program builds and starts from
 * these alone, without a network.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { inNamespace } from '../support/namespace.ts';
import { LIBS, nixEval, TOP, tryNixEval } from './nix-eval.ts';

interface Locked {
  readonly version: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly hasInstallScript?: boolean;
}

/** A package as nix/npm-lock.nix returns it. */
interface Filtered {
  readonly package: Readonly<Record<string, unknown>>;
  readonly packageLock: { readonly packages: Readonly<Record<string, Locked>> };
}

const FILES = 'package = read ./package.json; packageLock = read ./package-lock.json;';
/** Reads the lock file as the package does. `change` is a Nix function over the packages of the lock file. */
const filtered = (change: string, more = ''): string => `
  let
    read = file: builtins.fromJSON (builtins.readFile file);
    files = { ${FILES} };
    change = ${change};
  in import ./nix/npm-lock.nix (files // {
    packageLock = files.packageLock // { packages = change files.packageLock.packages; };
  } // { ${more} })`;
/** The part of nixpkgs' lib that the flake needs. */
const STUB = `import ./nix/tests/lib-stub.nix // {
  genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
}`;
const UNCHANGED = filtered('packages: packages');

suite('the lock file in the Nix package', () => {
  test('every download has its address and its hash', () => {
    const { packages } = (nixEval(UNCHANGED) as Filtered).packageLock;
    assert.ok(Object.keys(packages).length > 100);
    for (const [path, { resolved, integrity, version }] of Object.entries(packages)) {
      if (!path.includes('node_modules/') || packages[path]?.link === true) continue;
      const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
      const file = `${name.slice(name.indexOf('/') + 1)}-${version}.tgz`;
      assert.equal(resolved, `https://registry.npmjs.org/${name}/-/${file}`, path);
      assert.match(integrity ?? '', /^sha512-/, path);
    }
  });

  test('no package has an install script', () => {
    const { packages } = (nixEval(UNCHANGED) as Filtered).packageLock;
    const scripts = Object.keys(packages).filter((path) => packages[path]?.hasInstallScript === true);
    assert.deepEqual(scripts, []);
  });

  test('development tools are left out', () => {
    const { package: manifest, packageLock } = nixEval(UNCHANGED) as Filtered;
    assert.deepEqual(Object.keys(manifest['devDependencies'] as object), ['rolldown']);
    for (const name of ['typescript', 'oxlint', 'knip', 'node', 'utp-native', 'bufferutil'])
      assert.ok(!(`node_modules/${name}` in packageLock.packages), name);
  });

  for (const [platform, arch] of [
    ['linux', 'x64'],
    ['linux', 'arm64'],
    ['darwin', 'arm64'],
  ] as const) {
    test(`${platform}-${arch} gets its own bundler`, () => {
      const more = `platform = "${platform}"; arch = "${arch}";`;
      const { packages } = (nixEval(filtered('packages: packages', more)) as Filtered).packageLock;
      const bundlers = Object.keys(packages).filter((path) => path.includes('@rolldown/binding-'));
      const libc = platform === 'linux' ? '-gnu' : '';
      assert.deepEqual(bundlers, [`node_modules/@rolldown/binding-${platform}-${arch}${libc}`]);
    });
  }

  test('refuses a package without a hash', () => {
    const change =
      'packages: packages // { "node_modules/webtorrent" = removeAttrs packages."node_modules/webtorrent" [ "integrity" ]; }';
    const { status, stderr } = tryNixEval(filtered(change));
    assert.notEqual(status, 0);
    assert.match(stderr, /no integrity for node_modules\/webtorrent: run npm install/);
  });

  test('refuses a package that is not listed', () => {
    const { status, stderr } = tryNixEval(filtered('packages: removeAttrs packages [ "node_modules/webtorrent" ]'));
    assert.notEqual(status, 0);
    assert.match(stderr, /no package webtorrent: run npm install/);
  });
});

suite('the Nix files', () => {
  test('parse', async () => {
    const names = await readdir(join(TOP, 'nix'), { recursive: true });
    const files = ['flake.nix', ...names.filter((name) => name.endsWith('.nix')).map((name) => `nix/${name}`)];
    assert.ok(files.length >= 10);
    const { status, stderr } = spawnSync('nix-instantiate', ['--parse', ...files], { cwd: TOP, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  });

  test('the package takes name and version from package.json and runs no install script', async () => {
    const made = nixEval('import ./nix/tests/package-eval.nix { }') as Record<string, unknown>;
    const manifest = JSON.parse(await readFile(join(TOP, 'package.json'), 'utf8')) as Record<string, unknown>;
    assert.deepEqual([made['pname'], made['version']], [manifest['name'], manifest['version']]);
    assert.deepEqual(made['npmRebuildFlags'], ['--ignore-scripts']);
    assert.match(String(made['installPhase']), /--add-flags \$out\/lib\/narswarm\/dist\/main\.js/);
    assert.match(String(made['installPhase']), /ln -s narswarm \$out\/bin\/lix-narswarm/);
  });

  for (const [title, folder] of LIBS) {
    test(`the flake has package, app, overlay, modules and checks, ${title}`, () => {
      const outputs = `
      let
        lib = ${folder === undefined ? STUB : `import (/. + ${JSON.stringify(folder)})`};
        self = outputs;
        pkgs = { callPackage = file: _: { type = "derivation"; name = baseNameOf file; outPath = "/nix/store/x"; meta.mainProgram = "narswarm"; }; stdenv.hostPlatform.system = "x86_64-linux"; };
        outputs = (import ./flake.nix).outputs { inherit self; nixpkgs = { inherit lib; legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs); }; };
      in {
        program = outputs.apps.x86_64-linux.default.program;
        checks = builtins.attrNames outputs.checks.aarch64-linux;
        modules = map (modules: builtins.pathExists modules.default) [
          outputs.nixosModules outputs.homeManagerModules outputs.darwinModules
        ];
        overlay = (outputs.overlays.default pkgs { }).narswarm.name;
      }`;
      assert.deepEqual(nixEval(outputs), {
        checks: ['module', 'package', 'vm'],
        modules: [true, true, true],
        overlay: 'package.nix',
        program: '/nix/store/x/bin/narswarm',
      });
    });
  }
});

test('the flake that README shows has the module', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-flake-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const [, shown = ''] = /```nix\n(\{\n {2}inputs[^]*?)```/.exec(await readFile(join(TOP, 'README.md'), 'utf8')) ?? [];
  await cp(join(TOP, 'flake.nix'), join(dir, 'narswarm/flake.nix'));
  await cp(join(TOP, 'nix'), join(dir, 'narswarm/nix'), { recursive: true });
  await mkdir(join(dir, 'nixpkgs'));
  const stub =
    'outputs = _: { lib = import ./lib.nix // { genAttrs = _: _: { }; nixosSystem = made: { inherit made; }; }; };';
  await writeFile(join(dir, 'nixpkgs/flake.nix'), `{ ${stub} }`);
  await cp(join(TOP, 'nix/tests/lib-stub.nix'), join(dir, 'nixpkgs/lib.nix'));
  await mkdir(join(dir, 'user'));
  const local = shown
    .replace(/"github:NixOS\/nixpkgs\/[^"]+"/, `"path:${dir}/nixpkgs"`)
    .replace(/"git\+file:[^"]+"/, `"path:${dir}/narswarm"`);
  await writeFile(join(dir, 'user/flake.nix'), local);
  await writeFile(join(dir, 'user/configuration.nix'), '{ }');

  const flags = ['--extra-experimental-features', 'nix-command flakes', '--store', join(dir, 'store'), '--json'];
  const what = `path:${dir}/user#nixosConfigurations.desktop.made.modules`;
  const made = spawnSync('nix', ['eval', ...flags, what], { encoding: 'utf8', env: { ...process.env, HOME: dir } });
  assert.equal(made.status, 0, made.stderr);
  const [, module, settings] = JSON.parse(made.stdout) as unknown[];
  assert.match(String(module), /module\.nix$/);
  assert.deepEqual(settings, { services: { narswarm: { enable: true } } });
});

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program without a network, with the Node of this test. */
function offline(cwd: string, ...command: readonly string[]): Ended {
  const [file, ...words] = inNamespace('-n');
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` };
  return spawnSync(file, [...words, ...command], { cwd, encoding: 'utf8', env });
}

/** Installs the packages of a lock file: by npm, or from here if npm has kept no copies of them. */
async function install(source: string, { packageLock }: Filtered): Promise<void> {
  const { status, stderr } = offline(source, 'npm', 'ci', '--ignore-scripts', '--offline', '--no-audit');
  if (!stderr.includes('ENOTCACHED')) return assert.equal(status, 0, stderr);
  const paths = Object.entries(packageLock.packages).filter(([path]) => path.includes('node_modules/'));
  for (const [path, { version, link }] of paths) {
    const here = JSON.parse(await readFile(join(TOP, path, 'package.json'), 'utf8')) as Locked;
    if (link !== true) assert.equal(here.version, version, `${path} is not of the lock file: npm ci`);
    const inner = join(TOP, path, 'node_modules');
    const filter = (file: string): boolean => file !== inner;
    await cp(join(TOP, path), join(source, path), { recursive: true, verbatimSymlinks: true, filter });
  }
  const programs = 'node_modules/.bin';
  return cp(join(TOP, programs), join(source, programs), { recursive: true, verbatimSymlinks: true });
}

test('builds and starts without a network, from the listed packages', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-package-'));
  t.after(() => rm(dir, { recursive: true, force: true }));

  const source = join(dir, 'source');
  for (const name of ['src', 'packaging', 'nix', 'package.json', 'rolldown.config.ts'])
    await cp(join(TOP, name), join(source, name), { recursive: true });
  const lock = nixEval(UNCHANGED) as Filtered;
  await writeFile(join(source, 'package.json'), JSON.stringify(lock.package));
  await writeFile(join(source, 'package-lock.json'), JSON.stringify(lock.packageLock));
  await install(source, lock);
  await cp(join(TOP, 'package.json'), join(source, 'package.json'));
  const build = offline(source, 'npm', 'run', '-s', 'build');
  assert.equal(build.status, 0, build.stderr);

  const installed = join(dir, 'installed');
  for (const name of ['dist', 'package.json']) await cp(join(source, name), join(installed, name), { recursive: true });
  await rm(source, { recursive: true });
  for (const args of [['--help'], ['service', '--print']]) {
    const run = offline(installed, process.execPath, join(installed, 'dist/main.js'), ...args);
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /narswarm/);
  }
});
