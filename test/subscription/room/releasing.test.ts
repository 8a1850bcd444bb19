/** Which subscriptions' NAR files may go since the Nix store has their paths. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Note } from '../../../src/subscription/state/note.ts';
import { releasingOf } from '../../../src/subscription/room/releasing.ts';
import type { SubscriptionState } from '../../../src/subscription/state/state.ts';
import type { Subscription } from '../../../src/subscription/subscription.ts';

function named(name: string, more: Partial<Subscription> = {}): Subscription {
  return { name, source: 's', import: true, sources: false, ready: false, publish: false, ...more };
}

function stateOf(name: string, ...notes: readonly Note[]): SubscriptionState {
  return { name, source: 's', generations: [], missing: [], missingCount: 0, notes };
}

function importedOf(subscriptions: readonly Subscription[], states: readonly SubscriptionState[] = []): string[] {
  return [...releasingOf('recipe', subscriptions, states).imported];
}

test('files go only of what is imported into the Nix store of this machine, and not published', () => {
  const others = [named('mirror', { import: false }), named('usb', { to: '/mnt' }), named('own', { publish: true })];
  assert.deepEqual(importedOf([named('desktop'), ...others]), ['desktop']);
});

test('files stay whose paths Nix may collect, since the update could make no GC roots', () => {
  const failure = { code: 'NIX_FAILED', message: 'no daemon', reason: 'no daemon' } as const;
  const states = [
    stateOf('desktop', { kind: 'profile', path: '/p', paths: 1 }),
    stateOf('failed', { kind: 'no-roots', failure }),
    stateOf('remote', { kind: 'remote-roots' }),
  ];
  assert.deepEqual(importedOf([named('desktop'), named('failed'), named('remote')], states), ['desktop']);
});
