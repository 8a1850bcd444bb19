import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { ipVersion, isIPv6 } from '../src/ip-version.ts';

const ODD = [
  '',
  '10.0.0.1',
  '010.0.0.1',
  '10.0.0',
  '256.1.1.1',
  '::',
  '::1',
  '1::',
  ':1',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7:8',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7',
  '12345::',
  'g::1',
  '::ffff:10.0.0.1',
  '::ffff:10.0.0.256',
  '::10.0.0.1:1',
  'fe80::1%eth0',
  'fe80::1%',
  'fe80::1%eth 0',
  'fe80::1%a%b',
  '::1\0x',
  ' ::1',
  '[::1]',
  'a:b',
];

test('tells the same version as Node', () => {
  for (const text of ODD) assert.equal(ipVersion(text), isIP(text), JSON.stringify(text));
  const group = fc.stringMatching(/^[\da-f]{0,5}$/);
  const address = fc.oneof(
    fc.ipV6(),
    fc.ipV4(),
    fc.array(group, { maxLength: 10 }).map((groups) => groups.join(':')),
    fc.stringMatching(/^[\da-f:.%]{0,30}$/),
  );
  fc.assert(
    fc.property(address, (text) => assert.equal(ipVersion(text), isIP(text))),
    { numRuns: 20_000 },
  );
});

test('knows an IPv6 address', () => {
  assert.ok(isIPv6('fe80::1%eth0'));
  assert.ok(!isIPv6('10.0.0.1'));
});
