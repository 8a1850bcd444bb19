import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isUnexpected, noteSentence } from '../../../src/cli/words/notes.ts';
import { leftOutNote } from '../../../src/subscription/state/note.ts';

test('puts notes of a run into words', () => {
  const failure = { reason: 'it broke' };
  assert.equal(
    noteSentence({ kind: 'kept-map', failure, created: '2026-01-01' }),
    'it broke; the hash map of 2026-01-01 is used',
  );
  assert.equal(
    noteSentence({ kind: 'member-map', failure, created: '2026-01-01' }),
    'it broke; the hash map of 2026-01-01 is used, which a peer holds',
  );
  assert.equal(
    noteSentence({ kind: 'kept-list', failure, at: '2026-01-01' }),
    'it broke; the list of 2026-01-01 is used',
  );
  const roots = Array.from({ length: 12 }, (_, index) => `r${index}`);
  assert.equal(
    noteSentence({ kind: 'outsized', roots }),
    'does not fit into --max-size, so it is held only in part: r0, r1, r2, r3, r4, r5, r6, r7, r8, r9 and 2 more',
  );
  assert.equal(
    noteSentence({ kind: 'outsized', roots: ['r'], paths: 1, bytes: 2_000 }),
    'does not fit into --max-size, so it is held only in part: r; without 1 path (2.00 kB)',
  );
  assert.equal(
    noteSentence({ kind: 'outsized', roots: [], paths: 2, bytes: 2_000 }),
    'does not fit into --max-size, so it is held only in part; without 2 paths (2.00 kB)',
  );
  assert.equal(
    noteSentence({ kind: 'profile', path: 'p', paths: 1 }),
    'p: its closure on this machine is 1 path; those that were built here are in no cache',
  );
  assert.equal(noteSentence('a sentence of an earlier version'), 'a sentence of an earlier version');
});

test('names the first few paths that were left out', () => {
  const said = (...paths: string[]): string => noteSentence(leftOutNote(paths, true));
  assert.equal(said('a'), '1 of its paths is in no cache and was left out: a');
  assert.equal(said('a', 'b'), '2 of its paths are in no cache and were left out: a, b');
  assert.equal(
    said('a', 'b', 'c', 'd', 'e', 'f', 'g'),
    '7 of its paths are in no cache and were left out: a, b, c, d, e, and 2 more',
  );
});

test('warns only of paths that such a source usually has', () => {
  assert.deepEqual(
    [true, false].map((isUsual) => isUnexpected(leftOutNote(['a'], isUsual))),
    [false, true],
  );
  assert.equal(isUnexpected({ kind: 'list-without-sources' }), false);
});
