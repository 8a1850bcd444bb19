import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isToldBelow, linesOf, missingLines } from '../../../src/cli/commands/status.ts';
import type { Missing } from '../../../src/subscription/state/missing.ts';
import type { SubscriptionStatus } from '../../../src/subscription/state/status.ts';

const missingOf = (count: number, why: string): Missing[] =>
  Array.from({ length: count }, (_, index) => {
    const path = `/nix/store/${String(index).padStart(32, why.slice(0, 1))}-${why}`;
    return { path, reason: `cannot fetch ${path}: ${why}`, code: 'NAR_UNAVAILABLE', facts: { path, why } };
  });

test('a reason is shown once, with a few of its paths', () => {
  const missing = missingOf(190, 'gone');
  const paths = missing.slice(0, 5).map(({ path }) => `              ${path}`);
  assert.deepEqual(
    [...missingLines(missing, 190)],
    ['  missing   190 paths: gone', ...paths, '              and 185 more'],
  );
});

test('a single path is on one line with its reason', () => {
  const [only] = missingOf(1, 'gone');
  assert.deepEqual([...missingLines([only!], 1)], [`  missing   ${only?.path}: gone`]);
});

test('of many reasons the first are shown, and the other paths are counted', () => {
  const missing = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].flatMap((why) => missingOf(1, why));
  const lines = [...missingLines(missing, 1_000)];
  assert.equal(lines.length, 6);
  assert.equal(lines.at(-1), '  missing   995 more paths');
  assert.deepEqual([...missingLines(missing.slice(0, 6), 6)].at(-1), '  missing   1 more path');
});

test('a complete subscription shows no missing path', () => assert.deepEqual([...missingLines([], 0)], []));

test('the reason for an incomplete subscription is shown above, unless the paths below say it', () => {
  const missing = ['a', 'b', 'c', 'd', 'e'].flatMap((why) => missingOf(7, why));
  const [only] = missingOf(1, 'f');
  assert.ok(isToldBelow(only!, [...missing.slice(7), only!]));
  assert.ok(isToldBelow(missing[6]!, missing), 'its reason is shown, though the path is not');
  assert.ok(!isToldBelow(only!, [...missing, only!]), 'its reason is one too many');
});

test('people see local times and how long ago, and a source as they wrote it', () => {
  const at = new Date(2026, 10, 20, 2, 14, 9, 123);
  const now = new Date(2026, 10, 20, 5, 20);
  const lines = [
    ...linesOf(
      {
        subscription: {
          name: 'app',
          source: 'app',
          file: '/etc/app.nix',
          import: false,
          sources: false,
          ready: false,
          publish: false,
        },
        health: 'complete',
        isDamaged: false,
        isUpdating: false,
        roots: [],
        state: {
          completeAsOf: at.toISOString(),
          generations: [{ number: 31, at: at.toISOString(), roots: [] }],
          lastRun: {
            at: at.toISOString(),
            durationMs: 1,
            outcome: 'complete',
            bytes: { store: 0, peers: 0, upstream: 0 },
            nars: 0,
          },
          missing: [],
          missingCount: 0,
          notes: [],
        },
      } as unknown as SubscriptionStatus,
      now,
    ),
  ];
  assert.equal(lines[0], 'app: complete as of 3 h ago, 02:14 (generation 31)');
  assert.equal(lines[2], '  last run  3 h ago, 02:14; 1 ms: nothing new');
  assert.equal(lines[1], '  source    -f /etc/app.nix app');
  assert.match(lines[2] ?? '', /^ {2}last run {2}3 h ago, 02:14; /);
});
