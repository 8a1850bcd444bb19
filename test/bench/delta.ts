/**
 * `npm run bench:delta`: patches between two versions of Debian packages, as NARs, beside their xz files; and between two builds
 * of them that differ in the hashes of their dependencies alone. Needs apt with two versions of a package, dpkg, Nix and xz.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { applyPatch, type Base } from '../../src/delta/apply.ts';
import { makePatch } from '../../src/delta/make.ts';
import { writeNar } from '../../src/store/export/write-nar.ts';

const PACKAGES = `libc6 libssl3 openssl python3.11-minimal libpython3.11-stdlib libxml2 git perl-base libperl5.36 sudo
  linux-libc-dev libglib2.0-0 bind9-libs libjavascriptcoregtk-4.1-0 libpoppler126 libgs10 locales postgresql-15
  libmagickcore-6.q16-6 openssh-client systemd mariadb-server php8.2-cli libruby3.1 qemu-system-x86 samba-libs apache2-bin
  openjdk-17-jre-headless xserver-xorg-core libxslt1.1 libexpat1 libarchive13 tzdata`.split(/\s+/);
const KEPT = fileURLToPath(new URL('../../node_modules/.cache/bench-deltas', import.meta.url));
/** A patch counts only below this part of the file, as for a publisher. */
const WORTH_PART = 0.6;
const { signal } = new AbortController();

interface Pair {
  readonly name: string;
  readonly base: string;
  readonly nar: string;
  /** Bytes of the xz file of `nar`. */
  readonly xzBytes: number;
}

interface Measured {
  readonly name: string;
  readonly narBytes: number;
  readonly xzBytes: number;
  readonly patchBytes: number;
  /** Processor seconds. */
  readonly makeSeconds: number;
  readonly applySeconds: number;
}

await mkdir(KEPT, { recursive: true });
const dir = await mkdtemp(join(tmpdir(), 'narswarm-bench-delta-'));
try {
  const updates: Measured[] = [];
  const rebuilds: Measured[] = [];
  for (const name of PACKAGES) {
    const pair = await pairOf(name);
    if (pair === undefined) continue;
    updates.push(await measure(pair));
    rebuilds.push(await measure(await rebuildOf(pair)));
  }
  report('two versions of a package', updates);
  report('rebuilt, other hashes of dependencies alone', rebuilds);
} finally {
  await rm(dir, { recursive: true, force: true });
}

/** Makes the NARs of two versions of a package, or takes those of an earlier run. Undefined if apt has only one. */
async function pairOf(name: string): Promise<Pair | undefined> {
  const folder = join(KEPT, name);
  await mkdir(folder, { recursive: true });
  const [base, nar, xz] = ['0.nar', '1.nar', '1.xz'].map((file) => join(folder, file)) as [string, string, string];
  if ((await stat(xz).catch(() => undefined)) === undefined) {
    const lines = execFileSync('apt-cache', ['madison', name], { encoding: 'utf8' }).trim().split('\n');
    const versions = [...new Set(lines.map((line) => line.split('|')[1]?.trim() ?? ''))];
    if (versions.length < 2) return undefined;
    for (const [index, version] of versions.slice(0, 2).entries()) {
      const unpacked = await mkdtemp(join(dir, 'deb-'));
      execFileSync('apt-get', ['download', '-q', `${name}=${version}`], { cwd: unpacked, stdio: 'ignore' });
      const [deb = ''] = await readdir(unpacked);
      execFileSync('dpkg-deb', ['-x', join(unpacked, deb), join(unpacked, 'files')]);
      // apt names the newest first.
      await writeFile(index === 0 ? nar : base, dump(join(unpacked, 'files')));
      await rm(unpacked, { recursive: true });
    }
    await writeFile(xz, execFileSync('xz', ['-6', '--threads=1', '--stdout', nar], { maxBuffer: Infinity }));
  }
  return { name, base, nar, xzBytes: (await stat(xz)).size };
}

function dump(path: string): Buffer {
  return execFileSync('nix-store', ['--dump', path], { maxBuffer: Infinity });
}

/** Makes two builds of a package that refer to dependencies where it names files below /usr, with other hashes. */
async function rebuildOf({ name, nar, xzBytes }: Pair): Promise<Pair> {
  const text = (await readFile(nar)).toString('latin1');
  const built = async (build: string): Promise<string> => {
    const path = join(dir, build);
    const hashOf = (word: string): string =>
      createHash('sha256')
        .update(build + word)
        .digest('hex')
        .slice(0, 32);
    const changed = text.replace(
      /\/usr\/((?:lib|share|bin)(?:\/[\w.+-]+)?)/g,
      (_, word: string) => `/nix/store/${hashOf(word)}-${word}`,
    );
    await writeFile(path, Buffer.from(changed, 'latin1'));
    return path;
  };
  return { name, base: await built('before'), nar: await built('after'), xzBytes };
}

async function measure({ name, base, nar, xzBytes }: Pair): Promise<Measured> {
  const path = join(dir, 'patch');
  const narBytes = (await stat(nar)).size;
  let begun = process.cpuUsage();
  const maxBytes = Math.floor(xzBytes * WORTH_PART);
  const made = await makePatch(await read(base), await read(nar), { path, maxBytes, signal });
  const makeSeconds = seconds(begun);
  if (made === undefined) return { name, narBytes, xzBytes, patchBytes: xzBytes, makeSeconds, applySeconds: 0 };
  begun = process.cpuUsage();
  const options = {
    format: { compression: 'zstd', level: 1 },
    narSize: narBytes,
    signal,
    onBytes: () => undefined,
  } as const;
  await writeNar(applyPatch(path, await read(base), { narSize: narBytes, signal }), join(dir, 'made'), options);
  return { name, narBytes, xzBytes, patchBytes: made, makeSeconds, applySeconds: seconds(begun) };
}

async function read(path: string): Promise<Base> {
  return {
    narSize: (await stat(path)).size,
    nar: createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>,
  };
}

function seconds(begun: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(begun);
  return (user + system) / 1e6;
}

function report(title: string, all: readonly Measured[]): void {
  const sum = (of: (one: Measured) => number, some = all): number => some.reduce((total, one) => total + of(one), 0);
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
  console.log(
    `\n${title}\n${'package'.padEnd(30)}${['NAR', 'xz', 'patch', 'of xz', 'apply'].map((word) => word.padStart(12)).join('')}`,
  );
  const line = (name: string, one: Omit<Measured, 'name'>): string => {
    const part = `${((100 * one.patchBytes) / one.xzBytes).toFixed(1)} %`;
    const rate = one.applySeconds === 0 ? '-' : `${(one.narBytes / 1e6 / one.applySeconds).toFixed(0)} MB/s`;
    return (
      name.padEnd(30) +
      [mb(one.narBytes), mb(one.xzBytes), mb(one.patchBytes), part, rate].map((text) => text.padStart(12)).join('')
    );
  };
  for (const one of all) console.log(line(one.name, one));
  const applied = all.filter(({ applySeconds }) => applySeconds > 0);
  const [patchBytes, xzBytes] = [sum((one) => one.patchBytes), sum((one) => one.xzBytes)];
  const ratios = all.map((one) => one.xzBytes / one.patchBytes).toSorted((a, b) => a - b);
  console.log(
    `${mb(patchBytes)} of patches instead of ${mb(xzBytes)} of xz (${(patchBytes / xzBytes).toFixed(3)}); the median package ${(ratios[all.length >> 1] ?? 1).toFixed(1)} times smaller; made at ${(sum((one) => one.narBytes) / 1e6 / sum((one) => one.makeSeconds)).toFixed(0)} MB/s, applied at ${(sum((one) => one.narBytes, applied) / 1e6 / sum((one) => one.applySeconds, applied)).toFixed(0)} MB/s of NAR a core`,
  );
}
