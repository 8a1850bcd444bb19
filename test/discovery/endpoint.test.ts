import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { isNarswarmError } from '../../src/errors.ts';
import { formatEndpoint, parseEndpoint } from '../../src/discovery/endpoint.ts';

const GOOD = [
  ['192.0.2.7:6881', '192.0.2.7', 6881],
  ['router.example.org:1', 'router.example.org', 1],
  ['localhost:65535', 'localhost', 65_535],
  ['[2001:db8::1]:80', '2001:db8::1', 80],
  ['[fe80::1%eth0]:80', 'fe80::1%eth0', 80],
] as const;

for (const [text, host, port] of GOOD) {
  test(`parses ${text}`, () => {
    assert.deepEqual(parseEndpoint(text), { host, port });
    assert.equal(formatEndpoint({ host, port }), text);
  });
}

test('one host has one name, also if its IPv4 address is mapped into IPv6', () => {
  for (const mapped of ['::ffff:10.0.0.1', '::FFFF:10.0.0.1', '::ffff:a00:1', '0:0:0:0:0:ffff:0a00:0001'])
    assert.deepEqual(parseEndpoint(`[${mapped}]:80`), { host: '10.0.0.1', port: 80 });
  assert.equal(parseEndpoint('[::ffff:0:a00:1]:80').host, '::ffff:0:a00:1');
});

const BAD = [
  '',
  ':80',
  'host',
  'host:',
  'host:0',
  'host:65536',
  'host:999999',
  'host:-1',
  'host:8o',
  'host: 80',
  ' host:80',
  'ho st:80',
  'host:80\n',
  '-host:80',
  'http://host:80',
  '2001:db8::1:80',
  '[]:80',
  '[192.0.2.7]:80',
  '[2001:db8::1]',
  '[2001:db8::1]80',
  '300.1.1.1:80',
  '10.0.1:80',
];

for (const text of BAD) {
  test(`refuses ${JSON.stringify(text)} in one sentence that names it`, () => {
    assert.throws(
      () => parseEndpoint(text),
      (error) =>
        isNarswarmError(error, 'USAGE') && error.message.startsWith(`${JSON.stringify(text)} is not HOST:PORT`),
    );
  });
}

test('parse reads back the output of format', () => {
  const hosts = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(
    fc.property(hosts, fc.integer({ min: 1, max: 65_535 }), (host, port) => {
      assert.deepEqual(parseEndpoint(formatEndpoint({ host, port })), { host, port });
    }),
  );
});

test('garbage gives USAGE and nothing else', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseEndpoint(text);
      } catch (error) {
        assert.ok(isNarswarmError(error, 'USAGE'));
      }
    }),
  );
});
