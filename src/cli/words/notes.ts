/** Puts the notes of a run into words. */
import type { BuildDifference } from '../../index/quorum.ts';
import type { Note } from '../../subscription/state/note.ts';
import { shellWord } from './shell-word.ts';
import { formatCount, formatSize } from './values.ts';

/** Limit on named roots. */
const NAMED_ROOTS = 10;

/**
 * Puts a note into one sentence. States of earlier versions have the sentence itself.
 *
 * @param when formats a time. Default: as it was recorded, in ISO 8601
 */
export function noteSentence(note: Note | string, when = (time: string): string => time): string {
  if (typeof note === 'string') return note;
  switch (note.kind) {
    case 'kept-map':
      return `${note.failure.reason}; the hash map of ${when(note.created)} is used`;
    case 'member-map':
      return `${note.failure.reason}; the hash map of ${when(note.created)} is used, which a peer holds`;
    case 'outsized':
      return outsizedInWords(note);
    case 'kept-list':
      return `${note.failure.reason}; the list of ${when(note.at)} is used`;
    case 'no-roots':
      return `nothing keeps the imported paths from nix-collect-garbage: ${note.failure.reason}`;
    case 'remote-roots':
      return 'its store is on another machine, where no GC root can be made from here: make one there with nix-store --add-root';
    case 'different-builds': {
      const { differences, count } = note;
      return `${differences.map(differenceSentence).join('; ')}${count > differences.length ? `; and ${count - differences.length} more` : ''}`;
    }
    case 'list-without-sources':
      return 'a list of store paths does not name their sources, so no sources are fetched';
    case 'unknown-sources':
      return `${note.path}: Nix does not have the derivation that it was built from, so its sources are unknown; subscribe to an installable to fetch them`;
    case 'unknown-builds':
      return `${note.path}: Nix does not have its derivation, so what a rebuild needs is unknown; subscribe to an installable for that`;
    case 'profile':
      return `${note.path}: its closure on this machine is ${note.paths} ${note.paths === 1 ? 'path' : 'paths'}; those that were built here are in no cache`;
    case 'undecided-outputs':
      return `${note.drvPath}: its output paths are known only after a build (content-addressed)`;
    case 'inputs-instead':
      return `no cache has ${note.paths.join(', ')}: the inputs of its build are used instead`;
    case 'left-out': {
      const { paths, count } = note;
      const were = count === 1 ? 'is in no cache and was' : 'are in no cache and were';
      return `${count} of its paths ${were} left out: ${named(paths, count, ', and')}`;
    }
    default:
      return note satisfies never;
  }
}

/** Returns the paths that publishers have built with different results. */
export function differencesIn(note: Note | string): readonly BuildDifference[] {
  return typeof note !== 'string' && note.kind === 'different-builds' ? note.differences : [];
}

/** Returns a command line for each difference whose NARs are kept: it unpacks the first two, and compares them. */
export function comparisons(note: Note | string): string[] {
  return differencesIn(note).flatMap(({ builds }) => {
    const [a, b] = builds.flatMap(({ nar }) => nar ?? []).map(shellWord);
    if (a === undefined || b === undefined) return [];
    return `d=$(mktemp -d) && nix-store --restore $d/a <${a} && nix-store --restore $d/b <${b} && diffoscope $d/a $d/b`;
  });
}

/** Names the publishers of each result. */
export function differenceSentence({ path, builds }: BuildDifference): string {
  const results = builds.map(({ narHash, publishers }) => `${publishers.join(' and ')} (${narHash})`);
  return `${path} was built differently by ${results.join(' and by ')}`;
}

/**
 * Gives the way out for a publisher that has shown different histories of its editions. @param proof the folder with
 * both
 */
export function twoHistories(proof: string): string {
  return `its publisher has signed two histories, or has lost the record of its own: ask its owner, who can compare the two manifests in ${proof}, then remove that folder`;
}

function outsizedInWords({ roots, paths, bytes = 0 }: Extract<Note, { kind: 'outsized' }>): string {
  const parts = roots.length === 0 ? '' : `: ${named(roots.slice(0, NAMED_ROOTS), roots.length, ' and')}`;
  const rest = paths === undefined ? '' : `; without ${formatCount(paths, 'path')} (${formatSize(bytes)})`;
  return `does not fit into --max-size, so it is held only in part${parts}${rest}`;
}

/** Returns true for a note that people see with --quiet, too. */
export function isUnexpected(note: Note | string): boolean {
  if (typeof note === 'string') return false;
  return note.kind === 'no-roots' || (note.kind === 'left-out' && !note.isUsual);
}

/** Returns true for a note that repeats a warning of the same run, from the look-up of the hash map. */
export function isWarnedOf(note: Note | string): boolean {
  return typeof note !== 'string' && ['kept-map', 'member-map', 'different-builds'].includes(note.kind);
}

function named(first: readonly string[], count: number, and: string): string {
  return `${first.join(', ')}${count > first.length ? `${and} ${count - first.length} more` : ''}`;
}
