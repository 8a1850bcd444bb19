import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { isNarswarmError } from '../../src/errors.ts';
import { formatEndpoint, isLanAddress, parseEndpoint } from '../../src/torrent/endpoint.ts';

const GOOD = [
  ['192.0.2.7:6881', '192.0.2.7', 6881],
  ['router.example.org:1', 'router.example.org', 1],
  ['localhost:65535', 'localhost', 65_535],
  ['[2001:db8::1]:80', '2001:db8::1', 80],
  ['[::ffff:10.0.0.1]:80', '::ffff:10.0.0.1', 80],
] as const;

for (const [text, host, port] of GOOD) {
  test(`parses ${text}`, () => {
    assert.deepEqual(parseEndpoint(text), { host, port });
    assert.equal(formatEndpoint({ host, port }), text);
  });
}

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

test('what is formatted parses to the same', () => {
  const hosts = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(
    fc.property(hosts, fc.integer({ min: 1, max: 65_535 }), (host, port) => {
      assert.deepEqual(parseEndpoint(formatEndpoint({ host, port })), { host, port });
    }),
  );
});

test('garbage is refused with USAGE and nothing else', () => {
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

const NEAR = [
  '127.0.0.1 127.255.255.254 10.0.0.0 10.255.255.255 172.16.0.1 172.31.255.255 192.168.7.7 169.254.1.1',
  '::1 fc00::1 fdff::1 fe80::1 fe80::1%eth0 ::ffff:192.168.0.1 ::ffff:7f00:1',
];
const FAR = [
  '8.8.8.8 11.0.0.1 172.15.0.1 172.32.0.1 192.167.0.1 192.169.0.1 169.253.0.1 126.0.0.1 100.64.0.1 0.0.0.0',
  '255.255.255.255 239.192.152.143 2001:db8::1 :: ::2 fec0::1 fbff::1 ::ffff:8.8.8.8 localhost 10.0.0 x%eth0',
];

for (const ip of NEAR.join(' ').split(' ')) test(`${ip} is of a LAN`, () => assert.equal(isLanAddress(ip), true));
for (const ip of ['', ...FAR.join(' ').split(' ')])
  test(`${JSON.stringify(ip)} is not of a LAN`, () => assert.equal(isLanAddress(ip), false));
