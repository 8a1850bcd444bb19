import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { NarswarmError } from '../../../src/errors.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { nextState } from '../../../src/subscription/state/next-state.ts';
import type { SubscriptionState } from '../../../src/subscription/state/state.ts';

const AT = '2026-01-02T00:00:00Z';
const RUN = { at: AT, durationMs: 1, bytes: { store: 0, peers: 0, upstream: 0 }, nars: 0 };
const SUBSCRIPTION = { name: 'x', source: 'new', import: false, sources: false, ready: false, publish: false };
const FAILURE = {
  error: new NarswarmError('INDEX_UNREACHABLE', 'nobody answers', { facts: { asked: 3 } }),
  parts: [],
  main: undefined,
  notes: [],
};

suite('the state after a run without results', () => {
  const path = parseStorePath(`/nix/store/${'1'.repeat(32)}-x`);
  const before: SubscriptionState = {
    name: 'x',
    source: 'old',
    generations: [{ number: 4, at: 'then', wanted: 'w', roots: [path], complete: true }],
    completeAsOf: 'then',
    missing: [{ path: 'p', reason: 'r' }],
    missingCount: 1,
    notes: [],
  };

  test('keeps the held and the missing paths, and their time', () => {
    const state = nextState({ ...SUBSCRIPTION, source: 'old' }, before, FAILURE, RUN);
    assert.deepEqual(state, {
      ...before,
      lastRun: {
        ...RUN,
        outcome: 'failed',
        failure: { reason: 'nobody answers', code: 'INDEX_UNREACHABLE', facts: { asked: 3 } },
      },
    });
  });

  test('keeps only the held paths of another source', () => {
    const state = nextState(SUBSCRIPTION, before, FAILURE, RUN);
    assert.deepEqual(
      [state.source, state.generations, state.missingCount, state.completeAsOf],
      ['new', before.generations, 0, undefined],
    );
  });
});
