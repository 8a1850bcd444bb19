import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { MAX_MANIFEST_BYTES } from '../../src/index/format/limits.ts';
import { parseManifest, signManifest } from '../../src/index/manifest.ts';
import type { Manifest } from '../../src/index/manifest.ts';
import { shardEntryOf } from '../../src/index/format/shard.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { failsWith, TOP } from '../nix/fixtures.ts';
import { anyManifest, FIXTURES, flipBit, GOLDEN, KEY, NOW, OTHER_KEY, throwsOnlyOwnErrors } from './fixtures.ts';

const BYTES = readFileSync(new URL('manifest', FIXTURES));
const TEXT = BYTES.toString().replace(/Sig: .*\n$/, '');
const EXPECTED = { publicKey: KEY.publicKey, salt: 'desktop', now: NOW };
const MANIFEST = parseManifest(BYTES, EXPECTED);

/** Signed with the expected key, so that only the text can be the cause of a refusal. */
function sign(text: string | Buffer, prefix = 'narswarm manifest 1\n'): Buffer {
  const message = Buffer.concat([Buffer.from(prefix), Buffer.from(text)]);
  return Buffer.from(`${String(text)}Sig: ${Buffer.from(KEY.sign(message)).toString('base64')}\n`);
}

/** A line of this many bytes that every reader skips. */
function unknownLine(sizeBytes: number): string {
  return `Mirror: ${'x'.repeat(sizeBytes - 'Mirror: \n'.length)}\n`;
}

/** Returns TEXT with one line replaced. */
function altered(key: string, value: string): string {
  const line = new RegExp(`^${key}: .*$`, 'm');
  assert.match(TEXT, line);
  return TEXT.replace(line, () => `${key}: ${value}`);
}

function parseAt(time: string, allowExpired = false): Manifest {
  return parseManifest(BYTES, { ...EXPECTED, now: new Date(time), allowExpired });
}

function parseSigned(text: string): Manifest {
  return parseManifest(sign(text), EXPECTED);
}

test('reads and writes the golden manifest', () => {
  const { records, key, ...decided } = GOLDEN;
  const shard = readFileSync(new URL('shards/all.zst', FIXTURES));
  const manifest = { ...decided, recordCount: records.length, prefixLength: 0, shards: [shardEntryOf('', shard)] };
  assert.deepEqual(MANIFEST, manifest);
  assert.deepEqual(Buffer.from(signManifest(manifest, key)), BYTES);
});

test('parse reads back the output of sign', () => {
  fc.assert(
    fc.property(anyManifest(), (manifest) => {
      const expected = {
        publicKey: KEY.publicKey,
        salt: manifest.salt,
        now: manifest.created,
        lowestSeq: manifest.seq,
      };
      assert.deepEqual(parseManifest(signManifest(manifest, KEY), expected), manifest);
    }),
  );
});

test('drops milliseconds', () => {
  const created = new Date('2026-01-31T03:00:00.999Z');
  const bytes = signManifest({ ...MANIFEST, created }, KEY);
  assert.deepEqual(Buffer.from(bytes), BYTES);
});

test('a change of any bit makes the signature invalid', () => {
  for (let bit = 0; bit < BYTES.length * 8; bit++) {
    assert.throws(() => parseManifest(flipBit(BYTES, bit), EXPECTED), failsWith('INDEX_SIGNATURE'), `bit ${bit}`);
  }
});

test('changing, removing or doubling any line makes the signature invalid', () => {
  const lines = BYTES.toString().split(/(?<=\n)/);
  for (const [index, line] of lines.entries()) {
    for (const instead of ['', line + line, line.replace(/.\n$/, '\n'), line.replace(': ', ': 1')]) {
      const bytes = Buffer.from(lines.with(index, instead).join(''));
      assert.throws(() => parseManifest(bytes, EXPECTED), failsWith('INDEX_SIGNATURE'), instead);
    }
  }
});

test('requires the whole signature in canonical form on the last line', () => {
  const text = BYTES.toString();
  for (const broken of ['', TEXT, text.slice(0, -1), `${text}\n`, `${text}Seq: 43\n`, text.replace('Sig: ', 'Sig:')]) {
    assert.throws(() => parseManifest(Buffer.from(broken), EXPECTED), failsWith('INDEX_SIGNATURE', /cut short/));
  }
  for (const broken of [text.replace(/=\n$/, '\n'), text.replace(/(Sig: .*)\n$/, '$1=\n'), `${TEXT}Sig: AAAA\n`]) {
    assert.throws(() => parseManifest(Buffer.from(broken), EXPECTED), failsWith('INDEX_SIGNATURE', /not signed by/));
  }
  assert.throws(() => parseManifest(BYTES.subarray(TEXT.length), EXPECTED), failsWith('INDEX_SIGNATURE', /cut short/));
});

test('the signature covers its purpose, and is valid for one key', () => {
  assert.deepEqual(parseManifest(sign(TEXT), EXPECTED), MANIFEST);
  for (const prefix of ['', 'narswarm manifest 2\n']) {
    assert.throws(() => parseManifest(sign(TEXT, prefix), EXPECTED), failsWith('INDEX_SIGNATURE', /not signed by/));
  }
  const { publicKey } = OTHER_KEY;
  assert.throws(() => parseManifest(BYTES, { ...EXPECTED, publicKey }), failsWith('INDEX_SIGNATURE', /not signed by/));
});

test('checks the signature before it reads the text: unsigned garbage is never read', () => {
  const bytes = Buffer.from(altered('Narswarm', '99') + BYTES.toString().slice(TEXT.length));
  assert.throws(() => parseManifest(bytes, EXPECTED), failsWith('INDEX_SIGNATURE'));
});

test('requires the key and the salt of the address', () => {
  const otherKey = altered('PublicKey', Buffer.from(OTHER_KEY.publicKey).toString('hex'));
  assert.throws(() => parseSigned(otherKey), failsWith('INDEX_SIGNATURE', /names another key/));
  const laptop = { ...EXPECTED, salt: 'laptop' };
  assert.throws(() => parseManifest(BYTES, laptop), failsWith('INDEX_SIGNATURE', /map "desktop", not "laptop"/));
  assert.throws(() => parseManifest(BYTES, { ...EXPECTED, salt: '' }), failsWith('INDEX_SIGNATURE', /not ""/));
  const { salt: _, ...anySalt } = EXPECTED;
  assert.deepEqual(parseManifest(BYTES, anySalt), MANIFEST);
});

test('accepts a manifest until it expires', () => {
  assert.deepEqual(parseAt('2026-02-14T02:59:59Z'), MANIFEST);
  const expired = failsWith('INDEX_EXPIRED', /expired at 2026-02-14T03:00:00/);
  assert.throws(() => parseAt('2026-02-14T03:00:00Z'), expired);
  assert.throws(() => parseAt('2030-01-01T00:00:00Z'), expired);
  assert.deepEqual(parseAt('2030-01-01T00:00:00Z', true), MANIFEST);
});

test('accepts a manifest from the future within a day of skew', () => {
  assert.deepEqual(parseAt('2026-01-30T03:00:00Z'), MANIFEST);
  assert.throws(() => parseAt('2026-01-30T02:59:59Z'), failsWith('INDEX_INVALID', /check the clock/));
});

test('refuses a seq below the lowest, even if expired manifests are accepted', () => {
  assert.deepEqual(parseManifest(BYTES, { ...EXPECTED, lowestSeq: 42 }), MANIFEST);
  for (const allowExpired of [false, true]) {
    const expected = { ...EXPECTED, lowestSeq: 43, allowExpired };
    assert.throws(() => parseManifest(BYTES, expected), failsWith('INDEX_ROLLBACK', /seq 42, but 43/));
  }
});

test('does not sign a manifest that could not be read back', () => {
  const path = parseStorePath(`/nix/store/${TOP}-top`);
  const cases: readonly (readonly [Partial<Manifest>, RegExp])[] = [
    [{ seq: 0 }, /Seq/],
    [{ seq: 1e21 }, /Seq/],
    [{ expires: MANIFEST.created }, /expires before/],
    [{ created: new Date(Number.NaN) }, /not a time/],
    [{ expires: new Date(8.64e15) }, /not a time/],
    [{ roots: [{ name: 'a b', path }] }, /Root/],
    [
      {
        roots: [
          { name: 'top', path },
          { name: 'top', path },
        ],
      },
      /repeats a Root/,
    ],
    [{ peers: ['a:1\nPeer: b:2'] }, /does not fit in a line/],
    [{ trackers: ['gopher://x'] }, /Tracker/],
    [{ recordCount: Number.NaN }, /Records/],
    [{ prefixLength: 3 }, /PrefixLength/],
  ];
  for (const [change, reason] of cases) {
    assert.throws(() => signManifest({ ...MANIFEST, ...change }, KEY), failsWith('INDEX_INVALID', reason));
  }
  assert.throws(() => signManifest({ ...MANIFEST, salt: 'x'.repeat(65) }, KEY), failsWith('ADDRESS_INVALID'));
});

test('limits a manifest to 8 MiB, written or read', () => {
  const free = MAX_MANIFEST_BYTES - BYTES.length;
  assert.deepEqual(parseSigned(TEXT + unknownLine(free)), MANIFEST);
  assert.throws(() => parseSigned(TEXT + unknownLine(free + 1)), failsWith('INDEX_INVALID', /more than 8388608/));
});

test('limits each part of a manifest to the numbers that followers accept', () => {
  const many = <T>(length: number, make: (index: number) => T): T[] =>
    Array.from({ length }, (_, index) => make(index));
  const sha256 = '1'.repeat(52);
  const path = MANIFEST.roots[0]!.path;
  const year = 366 * 86_400_000;
  const cases: readonly [change: Partial<Manifest>, reason: RegExp][] = [
    [{ roots: many(10_001, (index) => ({ name: `r${index}`, path })) }, /10001 lines of Root, more than 10000/],
    [{ peers: many(257, (index) => `h:${index + 1}`) }, /257 lines of Peer/],
    [{ peers: [`${'x'.repeat(254)}:1`] }, /Peer/],
    [{ trackers: many(65, (index) => `udp://t:${index}`) }, /65 lines of Tracker/],
    [{ trackers: [`udp://t/${'x'.repeat(2048)}`] }, /Tracker/],
    [{ expires: new Date(MANIFEST.created.getTime() + 11 * year) }, /more than ten years/],
    [{ recordCount: 1_200_001 }, /Records/],
    [{ roots: [{ ...MANIFEST.roots[0]!, list: { sizeBytes: 16 * 2 ** 20 + 1, sha256 } }] }, /Root/],
    [{ prefixLength: 0, shards: [{ prefix: '', sizeBytes: 16 * 2 ** 20 + 1, sha256 }] }, /Shard/],
  ];
  for (const [change, reason] of cases)
    assert.throws(() => signManifest({ ...MANIFEST, ...change }, KEY), failsWith('INDEX_INVALID', reason));
});

test('requires UTF-8', () => {
  const text = Buffer.concat([Buffer.from(TEXT), Buffer.from('Mirror: \xff\n', 'latin1')]);
  const signature = KEY.sign(Buffer.concat([Buffer.from('narswarm manifest 1\n'), text]));
  const bytes = Buffer.concat([text, Buffer.from(`Sig: ${Buffer.from(signature).toString('base64')}\n`)]);
  assert.throws(() => parseManifest(bytes, EXPECTED), failsWith('INDEX_INVALID', /not UTF-8/));
});

test('refuses garbage with a NarswarmError', () => {
  const spliced = fc
    .tuple(fc.nat(TEXT.length), fc.nat(40), fc.string({ unit: 'binary', maxLength: 5 }))
    .map(([at, cut, inserted]) => TEXT.slice(0, at) + inserted + TEXT.slice(at + cut));
  fc.assert(fc.property(fc.uint8Array(), (bytes) => throwsOnlyOwnErrors(() => parseManifest(bytes, EXPECTED))));
  fc.assert(fc.property(fc.oneof(spliced, fc.string()), (text) => throwsOnlyOwnErrors(() => parseSigned(text))));
});
