import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DaemonFacts } from '../../../src/daemon/facts.ts';
import { unmapped, type MappingFailure } from '../../../src/discovery/gateway/mapping.ts';
import { problemsOf } from '../../../src/daemon/web/health.ts';
import { newView, viewInUse } from '../../cli/status-page/view-fixture.ts';

const NOW = new Date('2026-11-30T12:00:00Z');
const EDITION = { seq: 1, created: '2026-11-20T12:00:00Z', expires: '2026-12-04T12:00:00Z', records: 1 };
const OLD = { ...EDITION, expires: '2026-11-30T11:59:59Z' };
const FACTS: DaemonFacts = { ...newView().facts, startedAt: '2026-11-30T11:00:00Z' };

/** The kinds of problems of a daemon that has run for an hour. */
function kinds(facts: Partial<DaemonFacts>): string[] {
  return problemsOf({ ...FACTS, ...facts }, [], NOW).map(({ kind }) => kind);
}

test('a hash map is a problem if it has expired, or was not found for ten minutes', () => {
  assert.deepEqual(kinds({ maps: [{ address: 'a', edition: EDITION }] }), []);
  assert.deepEqual(kinds({ maps: [{ address: 'a', edition: OLD }] }), ['map-expired']);
  assert.deepEqual(kinds({ maps: [{ address: 'a', edition: null }] }), ['map-not-found']);
  assert.deepEqual(kinds({ maps: [{ address: 'a', edition: null }], startedAt: '2026-11-30T11:51:00Z' }), []);
  assert.deepEqual(kinds({ published: { address: 'a', edition: EDITION, nodes: 0 } }), []);
  assert.deepEqual(kinds({ published: { address: 'a', edition: OLD, nodes: 8 } }), ['own-map-expired']);
});

test('a DHT is a problem if it is used, and nobody answered for ten minutes', () => {
  assert.deepEqual(kinds({ dht: null }), []);
  assert.deepEqual(kinds({ dht: { port: 1, nodes: 1 } }), []);
  assert.deepEqual(kinds({ dht: { port: 1, nodes: 0 } }), ['dht-silent']);
  assert.deepEqual(kinds({ dht: { port: 1, nodes: 0 }, startedAt: '2026-11-30T11:51:00Z' }), []);
});

test('a mapping of ports is a problem if it was asked for and has failed for ten minutes', () => {
  const mapping = (failure: MappingFailure | null): Partial<DaemonFacts> => ({
    portMapping: { ...unmapped(failure, '192.168.1.1'), ports: [] },
  });
  assert.deepEqual(kinds({ portMapping: null }), []);
  for (const nothing of [null, 'scope', 'public-address'] as const) assert.deepEqual(kinds(mapping(nothing)), []);
  for (const bad of ['no-answer', 'refused', 'nested-nat'] as const)
    assert.deepEqual(kinds(mapping(bad)), ['port-not-mapped']);
  assert.deepEqual(kinds({ ...mapping('no-answer'), startedAt: '2026-11-30T11:51:00Z' }), []);
});

test('a subscription is a problem if it is incomplete or out of date, and not before its first update', () => {
  const [complete, incomplete, , never] = viewInUse().subscriptions;
  assert.ok(complete && incomplete && never);
  const stale = { ...complete, health: 'stale' } as const;
  const problems = problemsOf(FACTS, [complete, incomplete, never, stale], NOW);
  assert.deepEqual(problems, [
    { kind: 'subscription', name: 'lab', health: 'incomplete' },
    { kind: 'subscription', name: 'desktop', health: 'stale' },
  ]);
});
