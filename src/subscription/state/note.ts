/** Notes about a run that are not failures, as facts. They are kept in states; cli/ puts them into words. */
import type { Failure } from '../../failure.ts';
import type { BuildDifference } from '../../index/quorum.ts';

export type Note =
  /** The publisher did not answer; the hash map signed at `created` (ISO 8601) was used. */
  | { readonly kind: 'kept-map'; readonly failure: Failure; readonly created: string }
  /** The publisher's mirror failed; the hash map that a member holds, signed at `created` (ISO 8601), was used. */
  | { readonly kind: 'member-map'; readonly failure: Failure; readonly created: string }
  /**
   * Paths of a hash map that do not fit into `max-size`, the bytes of their NARs, and the roots that are held only in
   * part. States of earlier versions have only the roots.
   */
  | { readonly kind: 'outsized'; readonly roots: readonly string[]; readonly paths?: number; readonly bytes?: number }
  /** The server of the list failed; the list fetched at `at` (ISO 8601) was used. */
  | { readonly kind: 'kept-list'; readonly failure: Failure; readonly at: string }
  /** Nix made no GC roots for the imported paths. */
  | { readonly kind: 'no-roots'; readonly failure: Failure }
  /** The paths were imported into a store of another machine, whose Nix sees no roots on this one. */
  | { readonly kind: 'remote-roots' }
  /** Publishers have built these `count` paths with different results; the first of them, with the publishers of each result. */
  | { readonly kind: 'different-builds'; readonly differences: readonly BuildDifference[]; readonly count: number }
  /** Sources were requested, but a list names none. */
  | { readonly kind: 'list-without-sources' }
  /** Sources were requested, but Nix does not have the derivation of the path. */
  | { readonly kind: 'unknown-sources'; readonly path: string }
  /** The inputs of a rebuild were requested, but Nix does not have the derivation of the path. */
  | { readonly kind: 'unknown-builds'; readonly path: string }
  /** A profile, with its number of paths on this machine. Paths that were built here are in no cache. */
  | { readonly kind: 'profile'; readonly path: string; readonly paths: number }
  /** The output paths of a derivation are known only after its build. */
  | { readonly kind: 'undecided-outputs'; readonly drvPath: string }
  /** No cache has these paths; the inputs of their build were fetched instead. */
  | { readonly kind: 'inputs-instead'; readonly paths: readonly string[] }
  /** No cache has these `count` paths, the first of which are named. `isUsual`: such a source often lacks some. */
  | { readonly kind: 'left-out'; readonly paths: readonly string[]; readonly count: number; readonly isUsual: boolean };

export type DifferencesNote = Extract<Note, { kind: 'different-builds' }>;

/** Limit on left-out paths that a note names. */
const NAMED_LEFT_OUT = 5;

/** Limit on paths with different builds that a note names. */
const NAMED_DIFFERENCES = 20;

/** Makes the note about paths that publishers have built with different results. None if there are no such paths. */
export function differencesNote(differences: readonly BuildDifference[]): DifferencesNote[] {
  if (differences.length === 0) return [];
  const named = differences.slice(0, NAMED_DIFFERENCES);
  return [{ kind: 'different-builds', differences: named, count: differences.length }];
}

/** Makes the note about paths that were left out. */
export function leftOutNote(paths: readonly string[], isUsual: boolean): Note {
  return { kind: 'left-out', paths: paths.slice(0, NAMED_LEFT_OUT), count: paths.length, isUsual };
}
