import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { decodeNix32, encodeNix32 } from '../../src/nix/nix32.ts';
import { failsWith, readFixture } from './fixtures.ts';

const bytes = () => fc.uint8Array({ maxLength: 70 });

test('encodes and decodes as nix-hash does', () => {
  for (const line of readFixture('hashes.txt').trimEnd().split('\n')) {
    const [, hex = '', nix32 = ''] = line.split(' ');
    assert.equal(encodeNix32(Buffer.from(hex, 'hex')), nix32);
    assert.deepEqual(Buffer.from(decodeNix32(nix32)).toString('hex'), hex);
  }
});

test('encodes no bytes as an empty text', () => {
  assert.equal(encodeNix32(new Uint8Array()), '');
  assert.equal(decodeNix32('').length, 0);
});

test('decode reads back the output of encode', () => {
  fc.assert(fc.property(bytes(), (input) => assert.deepEqual(decodeNix32(encodeNix32(input)), new Uint8Array(input))));
});

test('a text is either the only spelling of its bytes or refused', () => {
  const almostNix32 = fc.stringMatching(/^[0-9a-eg-z-]{0,60}$/);
  fc.assert(
    fc.property(fc.oneof(fc.string(), almostNix32), (text) => {
      let decoded: Uint8Array;
      try {
        decoded = decodeNix32(text);
      } catch (error) {
        assert.ok(failsWith('NIX32_INVALID')(error));
        return;
      }
      assert.equal(encodeNix32(decoded), text);
    }),
  );
});

test('refuses characters outside the alphabet', () => {
  for (const character of ['e', 'o', 'u', 't', 'A', '-', '=', '\0', 'é']) {
    assert.throws(() => decodeNix32(`0${character}`), failsWith('NIX32_INVALID', /is not one of/));
  }
});

test('refuses lengths that no byte string has', () => {
  for (const length of [1, 3, 6, 9, 11, 51]) {
    assert.throws(() => decodeNix32('0'.repeat(length)), failsWith('NIX32_INVALID', /characters in nix32/));
  }
});

test('refuses bits set beyond the last byte', () => {
  assert.deepEqual([...decodeNix32('7z')], [255]);
  assert.throws(() => decodeNix32('8z'), failsWith('NIX32_INVALID', /beyond its last byte/));
  assert.throws(() => decodeNix32('z'.repeat(52)), failsWith('NIX32_INVALID', /beyond its last byte/));
});

test('cuts a long text in its message', () => {
  assert.throws(
    () => decodeNix32('!'.repeat(100_000)),
    (error) => error instanceof Error && error.message.length < 400,
  );
});
