/** Puts the notes of a run into words. */
import type { Note } from '../subscription/note.ts';

/** Limit on roots that are named. */
const NAMED_ROOTS = 10;

/** Says a note in one sentence. States of earlier versions have sentences. */
export function noteSentence(note: Note | string): string {
  if (typeof note === 'string') return note;
  switch (note.kind) {
    case 'kept-map':
      return `${note.failure.reason}; the map of ${note.created} was taken`;
    case 'outsized':
      return `does not fit into --max-size as a whole, so only what fits of it is held: ${named(note.roots.slice(0, NAMED_ROOTS), note.roots.length, ' and')}`;
    case 'kept-list':
      return `${note.failure.reason}: the list of ${note.at} is used`;
    case 'list-without-sources':
      return 'a list of store paths does not name the sources that they were built from: none are fetched';
    case 'unknown-sources':
      return `${note.path}: Nix does not have the derivation that it was built from, so its sources are unknown; subscribe to an installable to fetch them`;
    case 'profile':
      return `${note.path}: its closure on this machine is ${note.paths} ${note.paths === 1 ? 'path' : 'paths'}; those that were built here are in no cache`;
    case 'undecided-outputs':
      return `${note.drvPath}: only its build decides the paths of its outputs (content-addressed)`;
    case 'inputs-instead':
      return `no cache has ${note.paths.join(', ')}: what a build of it needs was taken in its place`;
    case 'left-out': {
      const { paths, count } = note;
      const were = count === 1 ? 'is in no cache and was' : 'are in no cache and were';
      return `${count} of its paths ${were} left out: ${named(paths, count, ', and')}`;
    }
    default:
      return note satisfies never;
  }
}

/** Returns true for a note that people see with --quiet, too. */
export function isUnexpected(note: Note | string): boolean {
  return typeof note !== 'string' && note.kind === 'left-out' && !note.isUsual;
}

function named(first: readonly string[], count: number, and: string): string {
  return `${first.join(', ')}${count > first.length ? `${and} ${count - first.length} more` : ''}`;
}
