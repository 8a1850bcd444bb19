import { packageOf } from '../nix/package-changes.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { baseNameOf } from '../nix/store-path.ts';

/**
 * Finds a predecessor for each path of a closure that another one lacks: a path of the same package, the nearest in size and in
 * its place in the closure.
 *
 * @param before the closure that followers may have, in an order in which neighbours of a path stay its neighbours
 * @param after the new closure, in the same order
 */
export function predecessors(before: readonly NarInfo[], after: readonly NarInfo[]): Map<NarInfo, NarInfo> {
  const known = new Set(before.map(({ storePath }) => storePath));
  const byPackage = Map.groupBy(
    before.map((info, index) => ({ info, place: index / before.length })),
    ({ info }) => packageOf(info.storePath).name,
  );
  const found = new Map<NarInfo, NarInfo>();
  for (const [index, info] of after.entries()) {
    if (known.has(info.storePath)) continue;
    const place = index / after.length;
    const distance = (other: { readonly info: NarInfo; readonly place: number }): number =>
      Math.abs(Math.log(other.info.narSize / info.narSize)) +
      Math.abs(other.place - place) +
      (outputOf(other.info) === outputOf(info) ? 0 : OTHER_OUTPUT);
    const [nearest] = (byPackage.get(packageOf(info.storePath).name) ?? []).toSorted(
      (a, b) => distance(a) - distance(b),
    );
    if (nearest !== undefined) found.set(info, nearest.info);
  }
  return found;
}

/** Another output of the package is a predecessor only if its size is much nearer. */
const OTHER_OUTPUT = 1;

/** Returns what follows the package and its version in the name of a path, such as `-dev`. */
function outputOf({ storePath }: NarInfo): string {
  const { name, version } = packageOf(storePath);
  const whole = `${name}-${version}`;
  const base = baseNameOf(storePath).slice(33);
  return base.startsWith(whole) ? base.slice(whole.length) : '';
}
