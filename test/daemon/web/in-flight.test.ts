import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InFlight } from '../../../src/daemon/web/in-flight.ts';
import type { FetchEvent } from '../../../src/fetch/events.ts';
import { viewInUse } from '../../cli/status-page/view-fixture.ts';

const [one] = viewInUse().inFlight;
assert.ok(one);

function bytes(nar: string, origin: string, count: number): FetchEvent {
  const isPeer = !origin.startsWith('http');
  const source = isPeer ? 'peers' : 'upstream';
  return {
    type: 'nar-bytes',
    source,
    group: isPeer ? 'neighbours' : 'caches',
    isNear: isPeer,
    origin,
    nar,
    bytes: count,
  };
}

test('a NAR in flight names its senders, those that sent most first, until it is here', () => {
  const inFlight = new InFlight();
  const from = (): readonly string[] | undefined => inFlight.of([one])[0]?.from;
  assert.deepEqual(from(), []);
  inFlight.take(bytes(one.fileHash, 'https://cache.test', 10));
  inFlight.take(bytes(one.fileHash, '192.0.2.1:16277', 8));
  inFlight.take(bytes(one.fileHash, '[::ffff:192.0.2.1]:40000', 8));
  assert.deepEqual(from(), ['192.0.2.1', 'https://cache.test']);
  inFlight.take({ type: 'nar-fetched', nar: one.fileHash, sizeBytes: one.sizeBytes });
  assert.deepEqual(from(), []);
});

test('the senders of only so many NARs are remembered', () => {
  const inFlight = new InFlight();
  inFlight.take(bytes(one.fileHash, 'https://cache.test', 1));
  for (let index = 0; index < 1_000; index++) inFlight.take(bytes(String(index), 'https://cache.test', 1));
  assert.deepEqual(inFlight.of([one])[0]?.from, []);
});
