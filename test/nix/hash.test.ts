import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  asFileHash,
  asNarHash,
  fileHashOf,
  narHashOf,
  parseHash,
  parseSha256,
  sha256Bytes,
} from '../../src/nix/hash.ts';
import { failsWith, readFixture } from './fixtures.ts';

const VECTORS = readFixture('hashes.txt')
  .trimEnd()
  .split('\n')
  .map((line) => {
    const [algorithm = '', hex = '', nix32 = '', base64 = ''] = line.split(' ');
    return { algorithm, hex, nix32, base64 };
  });
const SHA256 = VECTORS.filter(({ algorithm }) => algorithm === 'sha256');
const [EMPTY = assert.fail()] = SHA256;

test('reads each spelling of each algorithm', () => {
  for (const { algorithm, hex, nix32, base64 } of VECTORS) {
    for (const text of [`:${hex}`, `:${hex.toUpperCase()}`, `:${nix32}`, `:${base64}`, `-${base64}`]) {
      const hash = parseHash(algorithm + text);
      assert.equal(hash.algorithm, algorithm);
      assert.equal(Buffer.from(hash.digest).toString('hex'), hex);
    }
  }
});

test('brings every SHA-256 to the same nix32', () => {
  for (const { hex, nix32, base64 } of SHA256) {
    for (const text of [
      hex,
      nix32,
      base64,
      `sha256:${hex}`,
      `sha256:${nix32}`,
      `sha256:${base64}`,
      `sha256-${base64}`,
    ]) {
      assert.equal(parseSha256(text), nix32);
    }
  }
});

test('refuses anything but a SHA-256, and names it', () => {
  const { hex, nix32, base64 } = EMPTY;
  const malformed = [
    '',
    'sha256:',
    'narswarm',
    `sha256:${nix32} `,
    `sha256:${nix32}\n`,
    `sha256:${nix32.slice(1)}`,
    `sha256:e${nix32.slice(1)}`,
    `sha256:${hex.slice(1)}g`,
    `sha256-${hex}`,
    `sha256-${nix32}`,
    `sha256-${base64.slice(0, -1)}`,
    `sha256-${base64.replace('U=', 'V=')}`,
    `sha256:${base64.replace('=', 'A')}`, // 33 bytes
    `sha256-${base64.replaceAll('+', '-')}`,
    `SHA256:${nix32}`,
    `sha3:${nix32}`,
    `toString:${nix32}`,
    `sha512:${nix32}`,
  ];
  for (const text of malformed) {
    assert.throws(
      () => parseSha256(text),
      (error) => failsWith('HASH_INVALID')(error) && String(error).includes(JSON.stringify(text)),
      text,
    );
  }
});

test('refuses a well-formed hash of another algorithm if a SHA-256 is expected', () => {
  const sha512 = VECTORS.find(({ algorithm }) => algorithm === 'sha512');
  assert.throws(() => parseSha256(`sha512:${sha512?.hex}`), failsWith('HASH_INVALID', /expected sha256, not sha512/));
});

test('lists the known algorithms', () => {
  for (const algorithm of ['sha3', 'constructor']) {
    const oneOf = /the algorithm must be one of md5, sha1, sha256, sha512, blake3$/;
    assert.throws(() => parseHash(`${algorithm}:00`), failsWith('HASH_INVALID', oneOf));
  }
});

test('keeps the nix32 failure as the cause', () => {
  assert.throws(
    () => parseSha256('z'.repeat(52)),
    (error) => error instanceof Error && failsWith('NIX32_INVALID')(error.cause),
  );
});

test('digests and branded hashes convert both ways', () => {
  const digest = Buffer.from(EMPTY.hex, 'hex');
  assert.equal(fileHashOf(digest), EMPTY.nix32);
  assert.equal(narHashOf(digest), EMPTY.nix32);
  assert.deepEqual(Buffer.from(sha256Bytes(asFileHash(EMPTY.base64))), digest);
  assert.deepEqual(Buffer.from(sha256Bytes(asNarHash(EMPTY.hex))), digest);
});

test('refuses a digest of a length other than 32 bytes', () => {
  assert.throws(() => fileHashOf(new Uint8Array(31)), failsWith('HASH_INVALID', /32 bytes, this one has 31/));
  assert.throws(() => narHashOf(new Uint8Array(33)), failsWith('HASH_INVALID', /32 bytes, this one has 33/));
});

test('garbage gives HASH_INVALID and nothing else', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String(),
        fc.string().map((text) => `sha256:${text}`),
      ),
      (text) => {
        try {
          assert.match(parseSha256(text), /^[0-9a-z]{52}$/);
        } catch (error) {
          assert.ok(failsWith('HASH_INVALID')(error), String(error));
        }
      },
    ),
  );
});
