import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  FRAME_HEAD_BYTES,
  formatBody,
  formatDataHead,
  formatMessage,
} from '../../../src/exchange/messages/format-message.ts';
import {
  prefixOf,
  REFUSALS,
  type FilePrefix,
  type Message,
  type Refusal,
} from '../../../src/exchange/messages/messages.ts';
import { parseBody } from '../../../src/exchange/messages/parse-message.ts';
import type { FileHash, InfoHash, StoreHash } from '../../../src/nix/brands.ts';
import { encodeNix32 } from '../../../src/nix/nix32.ts';

const FIXTURE = new URL('../../../fixtures/exchange/messages.txt', import.meta.url);
const GOLDEN = new Map(
  readFileSync(FIXTURE, 'utf8')
    .split('\n')
    .filter((line) => /^\w/.test(line))
    .map((line) => line.split(/ +/))
    .map(([name = '', ...hex]) => [name, Buffer.from(hex.join(''), 'hex')]),
);
const DIGEST = Buffer.from('00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0', 'hex');
const FILE = encodeNix32(DIGEST) as FileHash;
const FIRST = '0011223344556677' as FilePrefix;
const SECOND = '8899aabbccddeeff' as FilePrefix;
const STORE_HASH = encodeNix32(Buffer.from(Array.from({ length: 20 }, (_, index) => index))) as StoreHash;

const INFO_HASH = Buffer.from(Array.from({ length: 20 }, (_, index) => index)).toString('hex') as InfoHash;

const MESSAGES: readonly Message[] = [
  { kind: 'want', batch: 42, prefixes: [FIRST, SECOND] },
  { kind: 'haveMap', batch: 42, bitmap: Buffer.of(0x80) },
  { kind: 'have', prefixes: [FIRST] },
  { kind: 'unwant', prefixes: [SECOND] },
  { kind: 'pieces', prefix: FIRST, count: 10, bitmap: Buffer.of(0xfe, 0x40) },
  { kind: 'piece', prefix: FIRST, index: 3 },
  { kind: 'get', id: 1, file: FILE, from: 2 ** 32, length: 128 * 1024 },
  { kind: 'data', id: 1, bytes: Buffer.from('nar') },
  { kind: 'refuse', id: 1, reason: 'busy' },
  { kind: 'cancel', id: 1 },
  {
    kind: 'any',
    id: 2,
    candidates: [
      { prefix: FIRST, from: 0, length: 2 ** 20 },
      { prefix: SECOND, from: 2 ** 20, length: 1024 },
    ],
  },
  { kind: 'picked', id: 2, index: 1 },
  { kind: 'narinfoGet', id: 3, hashes: [STORE_HASH] },
  { kind: 'narinfo', id: 3, index: 0, text: Buffer.from('Store\n') },
  { kind: 'edition', group: 'ab'.repeat(20) as InfoHash, seq: 0x6a0b3c4d, infoHash: INFO_HASH },
  { kind: 'fetching', fetches: [{ prefix: FIRST, heldBytes: 2 ** 32 }] },
];

for (const message of MESSAGES) {
  test(`${message.kind} has the bytes of the specification`, () => {
    assert.equal(formatMessage(message, 7).toString('hex'), GOLDEN.get(message.kind)?.toString('hex'));
    assert.deepEqual(parseBody(formatBody(message)), message);
  });
}

test('the golden file has no other message', () => {
  assert.deepEqual(
    [...GOLDEN.keys()],
    MESSAGES.map(({ kind }) => kind),
  );
});

test('the prefix of a file is the first 8 bytes of its SHA-256', () => {
  assert.equal(prefixOf(FILE), FIRST);
});

test('the head of DATA is everything before its bytes', () => {
  const whole = formatMessage({ kind: 'data', id: 1, bytes: Buffer.from('nar') }, 7);
  assert.deepEqual(formatDataHead(1, 3, 7), whole.subarray(0, whole.length - 3));
});

const record = <T>(model: { [Key in keyof T]: fc.Arbitrary<T[Key]> }): fc.Arbitrary<T> =>
  fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
const bytes = (length: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((array) => Buffer.from(array));
const number = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const prefix = bytes(8).map((array) => array.toString('hex') as FilePrefix);
const infoHash = bytes(20).map((array) => array.toString('hex') as InfoHash);
const prefixes = fc.array(prefix, { minLength: 1, maxLength: 20 });
const range = { from: fc.integer({ min: 0, max: 2 ** 52 }), length: fc.integer({ min: 1, max: 2 ** 32 - 1 }) };
const any: fc.Arbitrary<Message> = fc.oneof(
  record({ kind: fc.constant('want' as const), batch: number, prefixes }),
  record({
    kind: fc.constant('haveMap' as const),
    batch: number,
    bitmap: fc.integer({ min: 1, max: 50 }).chain(bytes),
  }),
  record({ kind: fc.constantFrom('have' as const, 'unwant' as const), prefixes }),
  fc.integer({ min: 1, max: 500 }).chain((count) =>
    record({
      kind: fc.constant('pieces' as const),
      prefix,
      count: fc.constant(count),
      bitmap: bytes(Math.ceil(count / 8)),
    }),
  ),
  record({ kind: fc.constant('piece' as const), prefix, index: fc.integer({ min: 0, max: 2 ** 20 - 1 }) }),
  record({
    kind: fc.constant('get' as const),
    id: number,
    file: bytes(32).map((array) => encodeNix32(array) as FileHash),
    ...range,
  }),
  record({ kind: fc.constant('data' as const), id: number, bytes: fc.integer({ min: 1, max: 99 }).chain(bytes) }),
  record({
    kind: fc.constant('refuse' as const),
    id: number,
    reason: fc.constantFrom(...(Object.keys(REFUSALS) as Refusal[])),
  }),
  record({ kind: fc.constant('cancel' as const), id: number }),
  record({
    kind: fc.constant('any' as const),
    id: number,
    candidates: fc.array(record({ prefix, ...range }), { minLength: 1, maxLength: 128 }),
  }),
  record({ kind: fc.constant('picked' as const), id: number, index: fc.integer({ min: 0, max: 127 }) }),
  record({
    kind: fc.constant('narinfoGet' as const),
    id: number,
    hashes: fc.array(
      bytes(20).map((array) => encodeNix32(array) as StoreHash),
      { minLength: 1, maxLength: 20 },
    ),
  }),
  record({
    kind: fc.constant('narinfo' as const),
    id: number,
    index: fc.integer({ min: 0, max: 255 }),
    text: fc.integer({ min: 0, max: 99 }).chain(bytes),
  }),
  record({
    kind: fc.constant('fetching' as const),
    fetches: fc.array(record({ prefix, heldBytes: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }) }), {
      minLength: 1,
      maxLength: 256,
    }),
  }),
  record({
    kind: fc.constant('edition' as const),
    group: infoHash,
    seq: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    infoHash,
  }),
);

test('parse reads back the output of format', () => {
  fc.assert(fc.property(any, (message) => assert.deepEqual(parseBody(formatBody(message)), message)));
});

test('the length of a frame counts the bytes after it', () => {
  fc.assert(
    fc.property(any, fc.integer({ min: 1, max: 255 }), (message, extensionId) => {
      const frame = formatMessage(message, extensionId);
      assert.equal(frame.readUInt32BE(0), frame.length - 4);
      assert.deepEqual([frame[4], frame[5]], [20, extensionId]);
      assert.deepEqual(frame.subarray(FRAME_HEAD_BYTES), formatBody(message));
    }),
  );
});

test('garbage is refused, or formats to the same bytes', () => {
  const garbage = fc.tuple(fc.integer({ min: 0, max: 16 }), fc.uint8Array({ maxLength: 200 }));
  fc.assert(
    fc.property(garbage, ([kind, rest]) => {
      const body = Buffer.concat([Buffer.of(kind), rest]);
      const message = parseBody(body);
      if (message === undefined || message === 'unknown') return;
      if (message.kind === 'refuse' && message.reason === 'failed') return; // stands for all reasons that are unknown
      assert.deepEqual(formatBody(message), body);
    }),
    { numRuns: 5000 },
  );
});

test('an unknown kind is distinguished from a malformed message', () => {
  assert.equal(parseBody(Buffer.of(99, 1, 2)), 'unknown');
  assert.equal(parseBody(Buffer.of()), undefined);
  assert.equal(parseBody(Buffer.of(7, 1, 2)), undefined);
});

test('refuses numbers that a double cannot hold', () => {
  const get = formatBody({ kind: 'get', id: 1, file: FILE, from: 0, length: 1 });
  get.fill(0xff, 37, 45);
  assert.equal(parseBody(get), undefined);
});
