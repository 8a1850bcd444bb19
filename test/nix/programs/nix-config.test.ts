import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatNixConfig, parseNixConfig } from '../../../src/nix/programs/nix-config.ts';
import { failsWith } from '../fixtures.ts';

const UNSET = {
  requireSigs: true,
  secretKeyFiles: [],
  netrcFile: undefined,
  caFile: undefined,
  connectTimeout: undefined,
  stalledDownloadTimeout: undefined,
  downloadAttempts: undefined,
};
const EXPECTED = { ...UNSET, substituters: ['https://a', 'https://b/'], trustedPublicKeys: ['a-1:AA==', 'b-1:BB=='] };

const SHAPES: Readonly<Record<string, string>> = {
  'JSON with objects': JSON.stringify({
    substituters: { value: ['https://a', 'https://b/'], defaultValue: [] },
    'trusted-public-keys': { value: ['a-1:AA==', 'b-1:BB=='], aliases: ['binary-cache-public-keys'] },
  }),
  'JSON with bare lists': JSON.stringify({
    substituters: ['https://a', 'https://b/'],
    'trusted-public-keys': ['a-1:AA==', 'b-1:BB=='],
  }),
  'JSON with words': JSON.stringify({
    substituters: { value: 'https://a https://b/' },
    'trusted-public-keys': 'a-1:AA== b-1:BB==',
  }),
  lines: 'sandbox = false\nsubstituters = https://a  https://b/\ntrusted-public-keys = a-1:AA== b-1:BB==\nx\n',
};

for (const [shape, text] of Object.entries(SHAPES)) {
  test(`reads ${shape}`, () => assert.deepEqual(parseNixConfig(text), EXPECTED));
}

test('reads an empty or missing setting as an empty list', () => {
  for (const text of ['', '{}', 'substituters = \n', '{"substituters":null,"trusted-public-keys":{"value":""}}']) {
    assert.deepEqual(parseNixConfig(text), { ...UNSET, substituters: [], trustedPublicKeys: [] });
  }
});

test('reads the download settings from JSON and from lines', () => {
  const expected = {
    substituters: [],
    trustedPublicKeys: [],
    requireSigs: false,
    secretKeyFiles: ['/a', '/b'],
    netrcFile: '/etc/nix/my netrc',
    caFile: '/ca.pem',
    connectTimeout: 0,
    stalledDownloadTimeout: 300,
    downloadAttempts: 5,
  };
  const json = {
    'require-sigs': { value: false },
    'secret-key-files': { value: ['/a', '/b'] },
    'netrc-file': { value: '/etc/nix/my netrc' },
    'ssl-cert-file': { value: '/ca.pem' },
    'connect-timeout': { value: 0 },
    'stalled-download-timeout': { value: 300 },
    'download-attempts': { value: 5 },
  };
  const lines = [
    'require-sigs = false',
    'secret-key-files = /a /b',
    'netrc-file = /etc/nix/my netrc',
    'ssl-cert-file = /ca.pem',
    'connect-timeout = 0',
    'stalled-download-timeout = 300',
    'download-attempts = 5',
  ];
  assert.deepEqual(parseNixConfig(JSON.stringify(json)), expected);
  assert.deepEqual(parseNixConfig(`${lines.join('\n')}\n`), expected);
  assert.deepEqual(parseNixConfig(formatNixConfig(parseNixConfig(lines.join('\n')))), expected);
});

test('refuses invalid JSON and JSON of another shape', () => {
  assert.throws(() => parseNixConfig('{'), failsWith('NIX_FAILED', /invalid JSON/));
  for (const value of [1, true, [1], { value: { a: 1 } }, {}]) {
    const text = JSON.stringify({ substituters: value });
    assert.throws(() => parseNixConfig(text), failsWith('NIX_FAILED', /setting substituters in a shape/), text);
  }
});

test('reads what it writes', () => {
  for (const text of [...Object.values(SHAPES), '', 'require-sigs = false']) {
    const config = parseNixConfig(text);
    assert.deepEqual(parseNixConfig(formatNixConfig(config)), config);
  }
});
