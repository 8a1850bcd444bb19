/** Lists the changes of a switch to the new paths of a subscription. */
import { NarswarmError } from '../../errors.ts';
import type { PackageChange } from '../../nix/package-changes.ts';
import type { Switching } from '../../subscription/update/switching.ts';
import type { Updated } from '../../subscription/update/update.ts';
import type { Output } from '../output.ts';
import { formatCount, formatSize } from './values.ts';

/** Signs of `nix store diff-closures` for no package, and for a package without a version. */
const ABSENT = '∅';
const NO_VERSION = 'ε';

export function tellSwitching(output: Output, { subscription, switching }: Updated): void {
  const { name, switchTo } = subscription;
  if (switching === undefined) return;
  if (switching instanceof NarswarmError) {
    output.warn(`${name}: what a switch would change is unknown: ${switching.message}`);
    return;
  }
  const { from, to, changes, rebuilt, sizeDelta } = switching;
  const facts = { name, switchTo, from, to, changes, rebuilt, sizeDelta };
  output.result('switch', facts, [...linesOf(name, switching)].join('\n'));
}

/** Yields the lines for people, in the form of `nix store diff-closures`. */
export function* linesOf(name: string, { from, to, changes, rebuilt, sizeDelta }: Switching): Generator<string> {
  if (to.length === 1 && to[0] === from) {
    yield `${name}: a switch would change nothing`;
    return;
  }
  const added = changes.filter(({ before }) => before.length === 0).length;
  const removed = changes.filter(({ after }) => after.length === 0).length;
  const parts = [
    `${formatCount(changes.length - added - removed, 'package')} changed`,
    `${added} added`,
    `${removed} removed`,
    ...(rebuilt === 0 ? [] : [`${rebuilt} rebuilt`]),
  ];
  yield `${name}: a switch would mean: ${parts.join(', ')}, ${signed(sizeDelta)}`;
  for (const change of changes) yield `  ${lineOf(change)}`;
}

function lineOf({ name, before, after, sizeDelta }: PackageChange): string {
  const [was, is] = [versions(before), versions(after)];
  return was === is ? `${name}: ${signed(sizeDelta)}` : `${name}: ${was} → ${is}, ${signed(sizeDelta)}`;
}

function versions(all: readonly string[]): string {
  return all.length === 0 ? ABSENT : all.map((version) => (version === '' ? NO_VERSION : version)).join(', ');
}

function signed(bytes: number): string {
  return `${bytes < 0 ? '-' : '+'}${formatSize(Math.abs(bytes))}`;
}
