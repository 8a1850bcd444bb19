import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placesIn } from '../../src/discovery/places.ts';

const V4 = [{ address: '192.168.7.20', prefixLength: 24 }];
const V6 = [{ address: 'fe80::1', prefixLength: 64 }];

test('an interface that was made again is another place, at the same name and address', () => {
  const [before, after] = [7, 8].map((index) => placesIn([{ name: 'eth0', index, ipv4: V4, ipv6: V6 }]));
  assert.notEqual(before!.ipv4[0]!.key, after!.ipv4[0]!.key);
  assert.notEqual(before!.ipv6[0]!.key, after!.ipv6[0]!.key);
  assert.deepEqual(after!.ipv4[0]!.via, before!.ipv4[0]!.via);
});
