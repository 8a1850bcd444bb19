import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { FrameReader } from '../../../src/exchange/messages/frame-reader.ts';
import {
  formatOpening,
  OUR_EXTENSION_ID,
  parseExtendedHandshake,
  parseHandshake,
} from '../../../src/exchange/messages/handshake.ts';
import { formatMessage } from '../../../src/exchange/messages/format-message.ts';
import type { FilePrefix, Message } from '../../../src/exchange/messages/messages.ts';
import type { InfoHash } from '../../../src/nix/brands.ts';
import { MAX_IGNORED_BYTES, MAX_MESSAGE_BYTES } from '../../../src/wire/bounds.ts';
import { ID, message, numbers } from '../../support/raw-peer.ts';

const GROUP = 'ab'.repeat(20) as InfoHash;
const PEER_ID = Buffer.from('-NS0200-abcdefghijkl');
const OPENING = formatOpening(GROUP, PEER_ID, 6881);

interface Read {
  readonly reader: FrameReader;
  readonly seen: unknown[];
}

/** A reader that records all messages, with the DATA of each request in one piece. */
function recording(): Read {
  const seen: unknown[] = [];
  const data = new Map<number, Buffer>();
  const reader = new FrameReader({
    handshake: (bytes) => seen.push(parseHandshake(bytes)) > 0,
    extended: (payload) => seen.push(parseExtendedHandshake(payload)) > 0,
    message: (one) => seen.push(structuredClone(one)) > 0,
    data: (id, bytes) => {
      const before = data.get(id);
      if (before === undefined) seen.push(['data', id]);
      data.set(id, Buffer.concat([before ?? Buffer.alloc(0), bytes]));
      return true;
    },
    isFull: () => false,
  });
  return { reader, seen };
}

function readAll(bytes: Buffer, chunkBytes: number): { isSound: boolean; seen: unknown[] } {
  const { reader, seen } = recording();
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    if (!reader.accept(bytes.subarray(at, at + chunkBytes))) return { isSound: false, seen };
  }
  return { isSound: true, seen };
}

const SOUND: readonly Message[] = [
  { kind: 'want', batch: 1, prefixes: ['0011223344556677' as FilePrefix] },
  { kind: 'data', id: 3, bytes: Buffer.alloc(1000, 3) },
  { kind: 'data', id: 4, bytes: Buffer.alloc(1, 4) },
  { kind: 'refuse', id: 5, reason: 'busy' },
  { kind: 'narinfo', id: 6, index: 0, text: Buffer.alloc(0) },
];

test('reads the same messages however the bytes arrive', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...SOUND), { maxLength: 6 }),
      fc.integer({ min: 1, max: 300 }),
      (messages, chunkBytes) => {
        const all = Buffer.concat([OPENING, ...messages.map((one) => formatMessage(one, OUR_EXTENSION_ID))]);
        const whole = readAll(all, all.length);
        assert.ok(whole.isSound);
        assert.deepEqual(readAll(all, chunkBytes), whole);
      },
    ),
  );
});

test('reads back both handshakes', () => {
  const { seen } = readAll(OPENING, 7);
  assert.deepEqual(seen, [
    { group: GROUP, peerId: PEER_ID.toString('hex') },
    { extensionId: OUR_EXTENSION_ID, port: 6881 },
  ]);
});

test('refuses a handshake of another protocol, or without extensions', () => {
  const other = Buffer.from(OPENING.subarray(0, 68));
  other[0] = 18;
  assert.equal(parseHandshake(other), undefined);
  const plain = Buffer.from(OPENING.subarray(0, 68));
  plain[25] = 0;
  assert.equal(parseHandshake(plain), undefined);
});

test('an extended handshake without the exchange, or that withdraws it, has no id', () => {
  for (const text of ['de', 'd1:md11:ut_metadatai1eee', 'd1:md13:nar_exchange2i0eee', 'd1:md13:nar_exchange2i256eee']) {
    assert.deepEqual(parseExtendedHandshake(Buffer.from(text)), { extensionId: undefined, port: undefined });
  }
  for (const text of ['', 'le', 'd1:m', '-3:abc', 'd1:pi-1e']) {
    assert.equal(parseExtendedHandshake(Buffer.from(text)), undefined);
  }
});

/** Messages that end a connection. */
const UNSOUND: Readonly<Record<string, Buffer>> = {
  'a message that is too long': numbers(MAX_MESSAGE_BYTES + 1),
  'DATA without a byte': message(ID.EXTENDED, Buffer.of(OUR_EXTENSION_ID, 8, 0, 0, 0, 1)),
  'a malformed message': message(ID.EXTENDED, Buffer.of(OUR_EXTENSION_ID, 7, 1, 2)),
  'a long extended handshake': message(ID.EXTENDED, Buffer.alloc(33 * 1024)),
};
for (const [what, bytes] of Object.entries(UNSOUND)) {
  test(`${what} ends the connection`, () => {
    assert.ok(!readAll(Buffer.concat([OPENING, bytes]), 10_000).isSound);
  });
}

test('foreign messages are ignored up to a bound', () => {
  const foreign = Buffer.concat([
    numbers(0), // keep-alive
    message(ID.HAVE, numbers(1_000_000_000)),
    message(ID.EXTENDED, Buffer.of(9, 1, 2, 3)),
    message(ID.EXTENDED, Buffer.of(OUR_EXTENSION_ID, 99)),
  ]);
  const refuse = formatMessage({ kind: 'refuse', id: 5, reason: 'busy' }, OUR_EXTENSION_ID);
  const { isSound, seen } = readAll(Buffer.concat([OPENING, foreign, refuse]), 11);
  assert.ok(isSound);
  assert.deepEqual(seen.slice(2), [{ kind: 'refuse', id: 5, reason: 'busy' }]);
  const much = Array.from({ length: MAX_IGNORED_BYTES / 100_000 + 1 }, () => message(77, Buffer.alloc(100_000)));
  assert.ok(!readAll(Buffer.concat([OPENING, ...much]), 65_536).isSound);
});

test('garbage ends the connection or is ignored, and never throws', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 20 }), (garbage, kind) => {
      readAll(Buffer.concat([OPENING, garbage]), 13);
      readAll(Buffer.concat([OPENING, message(ID.EXTENDED, Buffer.concat([Buffer.of(1, kind), garbage]))]), 13);
      readAll(Buffer.concat([OPENING, message(ID.EXTENDED, Buffer.concat([Buffer.of(0), garbage]))]), 13);
    }),
    { numRuns: 2000 },
  );
});

test('messages wait for room, and none is lost', () => {
  let room = 0;
  const kinds: string[] = [];
  const reader = new FrameReader({
    handshake: () => true,
    extended: () => true,
    message: ({ kind }) => kinds.push(kind) > 0 && --room >= 0,
    data: () => true,
    isFull: () => room === 0,
  });
  const asks = Array.from({ length: 3 }, (_, id) => formatMessage({ kind: 'cancel', id }, OUR_EXTENSION_ID));
  const bytes = Buffer.concat([OPENING, ...asks]);
  const late = bytes.length - 10;
  assert.ok(reader.accept(bytes.subarray(0, late)));
  assert.ok(reader.accept(bytes.subarray(late))); // arrives while others wait
  bytes.fill(0); // it was lent
  for (let count = 0; count <= 3; count++) {
    assert.equal(kinds.length, count);
    assert.equal(reader.isHolding, count < 3);
    room = 1;
    assert.ok(reader.goOn());
  }
  assert.equal(reader.heldBytes, 0);
});
