/**
 * Fetches the Nix of a newer release of Debian into a folder and prints the folder with its programs:
 * `node test/support/newer-nix.ts [suite]`. Nothing is installed: the packages are unpacked, and each program is started
 * by the dynamic linker that came with it. Works without root, wherever apt is configured for Debian.
 *
 * The folder stays (~/.cache/narswarm-test); remove it to fetch a later version.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The next release of Debian after each, which has the newer Nix. */
const NEWER_SUITE: Readonly<Record<string, string>> = { bullseye: 'trixie', bookworm: 'trixie', trixie: 'sid' };
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const PROGRAMS = ['nix', 'nix-store', 'nix-build', 'nix-instantiate', 'nix-daemon', 'nix-env', 'nix-hash'];

/** The reason why there is no newer Nix here, in a few words. */
export class NoNewerNix extends Error {}

/**
 * Returns the folder with the programs of a newer Nix. Fetches it unless it is there.
 *
 * @param suite of Debian; default: the one after this machine's
 * @throws NoNewerNix if the machine is not Debian, has no network, or has the newest release
 */
export function newerNix(suite: string = suiteAfterThis()): string {
  const dir = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'narswarm-test', `nix-${suite}`);
  const bin = join(dir, 'bin');
  if (runs(bin)) return bin;
  const work = `${dir}.${process.pid}`;
  try {
    mkdirSync(work, { recursive: true });
    unpack(downloadPackages(suite, join(work, 'apt')), join(work, 'root'));
    writePrograms(join(work, 'bin'), { root: join(work, 'root'), finalBin: bin, finalRoot: join(dir, 'root') });
    rmSync(join(work, 'apt'), { recursive: true });
    rmSync(dir, { recursive: true, force: true });
    renameSync(work, dir);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  if (!runs(bin)) throw new NoNewerNix(`the nix of ${suite} does not start here: try ${join(bin, 'nix')} --version`);
  return bin;
}

function suiteAfterThis(): string {
  const release = statSync('/etc/os-release', { throwIfNoEntry: false }) && readFileSync('/etc/os-release', 'utf8');
  const [, codename = ''] = /^VERSION_CODENAME=(\w+)$/m.exec(release ?? '') ?? [];
  const suite = NEWER_SUITE[codename];
  if (suite === undefined) throw new NoNewerNix('this is not a release of Debian with a newer one after it');
  return suite;
}

/** Downloads nix-bin with its dependencies, with an own configuration of apt. @returns the .deb files */
function downloadPackages(suite: string, dir: string): string[] {
  const place = (name: string): string => join(dir, name);
  for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(place(name), { recursive: true });
  writeFileSync(place('status'), ''); // nothing is installed: all dependencies are wanted
  const keyring = statSync(KEYRING, { throwIfNoEntry: false }) === undefined ? '' : `Signed-By: ${KEYRING}\n`;
  writeFileSync(
    place('debian.sources'),
    `Types: deb\nURIs: ${mirrorOfThisMachine()}\nSuites: ${suite}\nComponents: main\n${keyring}`,
  );
  const settings = {
    'Dir::Etc::sourcelist': place('debian.sources'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': dir,
    'Dir::State::status': place('status'),
    'Dir::Cache': place('cache'),
    'Acquire::Check-Valid-Until': 'false', // a mirror's index of sid may be some days old
    'Acquire::Languages': 'none',
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': '',
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  apt('update', [...options, '--error-on=any']);
  apt('install', [...options, '--yes', '--download-only', 'nix-bin']);
  return globSync(place('cache/archives/*.deb'));
}

/** Returns the source of this machine's Debian packages. */
function mirrorOfThisMachine(): string {
  const list = apt('indextargets', ['--format', '$(REPO_URI) $(COMPONENT) $(RELEASE)', 'Created-By: Packages']);
  const [, mirror] = /^(\S+) main \w+$/m.exec(list) ?? [];
  if (mirror === undefined) throw new NoNewerNix('apt has no list of Debian’s packages: run apt-get update');
  return mirror;
}

function apt(command: string, args: readonly string[]): string {
  try {
    return execFileSync('apt-get', ['--quiet=2', command, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (cause) {
    const { code, stderr = '' } = cause as { code?: string; stderr?: string };
    const [first = ''] = stderr.split('\n');
    throw new NoNewerNix(code === 'ENOENT' ? 'there is no apt-get' : `apt-get ${command} failed: ${first}`, {
      cause,
    });
  }
}

function unpack(packages: readonly string[], root: string): void {
  for (const file of packages) execFileSync('dpkg-deb', ['--extract', file, root]);
}

/** Writes a script for each program: it starts the one binary of Nix with the linker and libraries of its release. */
function writePrograms(bin: string, place: { root: string; finalBin: string; finalRoot: string }): void {
  mkdirSync(bin);
  const [linker] = globSync('usr/lib*/ld-linux*.so.*', { cwd: place.root });
  const [libraries] = globSync('usr/lib/*-linux-gnu*', { cwd: place.root });
  if (linker === undefined || libraries === undefined) throw new NoNewerNix('its packages have no dynamic linker');
  const final = (name: string): string => `'${join(place.finalRoot, name)}'`;
  for (const name of PROGRAMS) {
    const file = join(bin, name);
    // Nix starts itself for remote builds, from NIX_BIN_DIR. Its name decides which program it is.
    writeFileSync(
      file,
      `#!/bin/sh
export NIX_BIN_DIR='${place.finalBin}'
exec ${final(linker)} --library-path ${final(libraries)} --argv0 "$0" ${final('usr/bin/nix')} "$@"
`,
    );
    chmodSync(file, 0o755);
  }
}

function runs(bin: string): boolean {
  try {
    return /Nix/.test(execFileSync(join(bin, 'nix'), ['--version'], { encoding: 'utf8', stdio: 'pipe' }));
  } catch {
    return false;
  }
}

if (import.meta.main) {
  try {
    process.stdout.write(`${newerNix(process.argv[2])}\n`);
  } catch (error) {
    if (!(error instanceof NoNewerNix)) throw error;
    process.stderr.write(`no newer Nix: ${error.message}\n`);
    process.exitCode = 1;
  }
}
