import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNixConfig } from '../../src/nix/nix-config.ts';
import { failsWith } from './fixtures.ts';

const EXPECTED = { substituters: ['https://a', 'https://b/'], trustedPublicKeys: ['a-1:AA==', 'b-1:BB=='] };

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

test('a setting that is empty or not there is an empty list', () => {
  for (const text of ['', '{}', 'substituters = \n', '{"substituters":null,"trusted-public-keys":{"value":""}}']) {
    assert.deepEqual(parseNixConfig(text), { substituters: [], trustedPublicKeys: [] });
  }
});

test('refuses JSON that is broken or of another shape', () => {
  assert.throws(() => parseNixConfig('{'), failsWith('NIX_FAILED', /broken JSON/));
  for (const value of [1, true, [1], { value: { a: 1 } }, {}]) {
    const text = JSON.stringify({ substituters: value });
    assert.throws(() => parseNixConfig(text), failsWith('NIX_FAILED', /setting substituters in a shape/), text);
  }
});
