/** Compares two closures package by package, as `nix store diff-closures` and nvd do. */
import type { StorePath } from './brands.ts';
import { baseNameOf } from './store-path.ts';

/** A path of a closure. */
interface SizedPath {
  readonly storePath: StorePath;
  /** Bytes of the uncompressed NAR. */
  readonly narSize: number;
}

/** A package with other versions, or with another size. */
export interface PackageChange {
  readonly name: string;
  /** Versions before, sorted. Empty if it was added. A path without a version has the empty one. */
  readonly before: readonly string[];
  /** Versions after, sorted. Empty if it was removed. */
  readonly after: readonly string[];
  /** Bytes of its NARs after, less those before. */
  readonly sizeDelta: number;
}

export interface PackageChanges {
  /** Sorted by name. */
  readonly changes: readonly PackageChange[];
  /** Number of packages with the same versions and nearly the same size, in other store paths. */
  readonly rebuilt: number;
  /** Bytes of all NARs after, less those before. */
  readonly sizeDelta: number;
}

/** Least change of size that counts without another version, in bytes, as in Nix. */
const MIN_SIZE_CHANGE = 8 * 1024;
/** Names of outputs at the end of a store path's name: they are no part of the version. */
const OUTPUT = /-(?:bin|debug|dev|devdoc|dist|doc|getent|info|lib|lib32|lib64|man|static|terminfo)$/;
/** As in Nix's `DrvName`: a version begins after the first dash that no letter follows. */
const VERSION = /-(?=[^A-Za-z])/;

/** Compares two closures. */
export function packageChanges(before: Iterable<SizedPath>, after: Iterable<SizedPath>): PackageChanges {
  const [old, next] = [packagesOf(before), packagesOf(after)];
  const changes: PackageChange[] = [];
  let rebuilt = 0;
  for (const name of new Set([...old.keys(), ...next.keys()].toSorted((a, b) => a.localeCompare(b)))) {
    const [was, is] = [old.get(name) ?? NONE, next.get(name) ?? NONE];
    const sizeDelta = is.bytes - was.bytes;
    const [versions, newVersions] = [[...was.versions].toSorted(), [...is.versions].toSorted()];
    if (versions.join('\n') !== newVersions.join('\n') || was.paths.size === 0 || is.paths.size === 0)
      changes.push({ name, before: versions, after: newVersions, sizeDelta });
    else if (Math.abs(sizeDelta) >= MIN_SIZE_CHANGE)
      changes.push({ name, before: versions, after: newVersions, sizeDelta });
    else if ([...is.paths].some((path) => !was.paths.has(path))) rebuilt++;
  }
  return { changes, rebuilt, sizeDelta: bytesOf(next) - bytesOf(old) };
}

/** Splits the name of a store path into the name of the package and its version, without the name of an output. */
export function packageOf(path: StorePath): { readonly name: string; readonly version: string } {
  const whole = baseNameOf(path).slice(33);
  const short = whole.replace(OUTPUT, '');
  const [name, version] = splitVersion(short);
  return version === undefined ? { name: whole, version: '' } : { name, version };
}

function splitVersion(text: string): [name: string, version?: string] {
  const { index } = VERSION.exec(text) ?? {};
  return index === undefined ? [text] : [text.slice(0, index), text.slice(index + 1)];
}

interface Package {
  readonly versions: ReadonlySet<string>;
  readonly paths: ReadonlySet<StorePath>;
  readonly bytes: number;
}

const NONE: Package = { versions: new Set(), paths: new Set(), bytes: 0 };

function packagesOf(closure: Iterable<SizedPath>): Map<string, Package> {
  const packages = new Map<string, { versions: Set<string>; paths: Set<StorePath>; bytes: number }>();
  for (const { storePath, narSize } of closure) {
    const { name, version } = packageOf(storePath);
    const known = packages.get(name) ?? { versions: new Set(), paths: new Set(), bytes: 0 };
    known.versions.add(version);
    known.paths.add(storePath);
    known.bytes += narSize;
    packages.set(name, known);
  }
  return packages;
}

function bytesOf(packages: ReadonlyMap<string, Package>): number {
  return [...packages.values()].reduce((sum, { bytes }) => sum + bytes, 0);
}
