/** Paths that could not be had, in words that do not repeat themselves. */
import type { MissingPath } from '../fetch/closure.ts';

/** A path that is missing, as a state has it. */
export type Missing = Pick<MissingPath, 'path' | 'reason'>;

/** Paths that are missing for one reason. */
export interface MissingGroup {
  readonly reason: string;
  readonly paths: readonly string[];
}

/** Paths that were left out and that a note names. */
const NAMED_LEFT_OUT = 5;

const STORE_HASH = /^(?:.*\/)?([0-9a-z]{32})(?:-|$)/;

/** Why a path is missing, without naming it again: `http://cache does not hold its NAR`. */
export function reasonOf({ path, reason }: Missing): string {
  const [, hash] = STORE_HASH.exec(path) ?? [];
  if (hash === undefined) return reason;
  const itself = String.raw`[^\s,:;]*(?<![0-9a-z])${hash}(?:-[^\s,:;]*)?(?=[\s,:;]|$)`;
  return reason
    .replace(new RegExp(`^cannot fetch ${itself}: `), '')
    .replace(new RegExp(`^${itself} (?=is |has )`), 'it ')
    .replaceAll(new RegExp(`\\bthe NAR of ${itself}`, 'g'), 'its NAR')
    .replaceAll(new RegExp(`(?<= of )${itself}`, 'g'), 'it');
}

/** The paths by what keeps them away, the reason that takes most of them first. Addresses of single files do not count. */
export function groupByReason(missing: readonly Missing[]): MissingGroup[] {
  const groups = [...Map.groupBy(missing, kindOf)].map(([kind, members]) => ({
    reason: members.length === 1 ? members.map(reasonOf).join() : kind,
    paths: members.map(({ path }) => path),
  }));
  return groups.toSorted((a, b) => b.paths.length - a.paths.length);
}

/** That paths are missing, in one sentence, with the reason of the first. */
export function lackSentence(first: Missing, count: number): string {
  return `${isMissing(first.path)}${count > 1 ? `, and ${count - 1} more` : ''}: ${reasonOf(first)}`;
}

/** That paths are in no cache and were left out, with the names of the first few. */
export function leftOutSentence(paths: readonly string[]): string {
  const named = paths.slice(0, NAMED_LEFT_OUT).join(', ');
  const more = paths.length > NAMED_LEFT_OUT ? `, and ${paths.length - NAMED_LEFT_OUT} more` : '';
  return `${paths.length} of its paths ${paths.length === 1 ? 'is in no cache and was' : 'are in no cache and were'} left out: ${named}${more}`;
}

/** Whether a sentence says no more than that some of these paths are missing. */
export function isLackSentence(sentence: string, paths: readonly string[]): boolean {
  return paths.some((path) => sentence.startsWith(isMissing(path)));
}

function isMissing(path: string): string {
  return `${path} is missing`;
}

/** Its reason as those of other paths have it that fail of the same. */
function kindOf(missing: Missing): string {
  return reasonOf(missing)
    .replaceAll(/(https?:\/\/\S+?)\/(?:nar\/\S+|[0-9a-z]{32}\.narinfo)(?=\s|$)/g, '$1')
    .replaceAll(/ after \d+ attempts?(?=:)/g, '')
    .replaceAll(/, which \S+ refers to(?=:|$)/g, '');
}
