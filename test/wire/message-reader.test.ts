import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { MessageReader } from '../../src/wire/message-reader.ts';
import { handshakeOf, ID, message, numbers } from '../support/raw-peer.ts';

const HANDSHAKE = handshakeOf('a'.repeat(40));
const MESSAGES = [
  numbers(0),
  message(ID.UNCHOKE),
  message(ID.HAVE, numbers(2)),
  message(ID.PIECE, Buffer.concat([numbers(1, 0), Buffer.alloc(16_384, 7)])),
  message(ID.EXTENDED, Buffer.alloc(5000, 9)),
];

test('returns the handshake and each message whole, however their bytes arrive', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...MESSAGES), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1 }),
      (messages, chunkBytes) => {
        const all = Buffer.concat([HANDSHAKE, ...messages]);
        const reader = new MessageReader();
        const found: Buffer[] = [];
        for (let at = 0, turn = 0; at < all.length; turn++) {
          const to = at + (chunkBytes[turn % chunkBytes.length] ?? 1);
          reader.read(all.subarray(at, to), (one) => found.push(Buffer.from(one)));
          at = to;
        }
        assert.deepEqual(found, [HANDSHAKE, ...messages]);
        assert.ok(reader.isAtStart);
      },
    ),
  );
});

test('does not copy a message that comes in one chunk', () => {
  const reader = new MessageReader();
  const chunk = Buffer.concat([HANDSHAKE, ...MESSAGES]);
  reader.read(chunk, (one) => assert.equal(one.buffer, chunk.buffer));
});

test('takes memory for received bytes, not for claimed ones', () => {
  const before = process.memoryUsage().arrayBuffers;
  const readers = Array.from({ length: 200 }, () => {
    const reader = new MessageReader();
    const claim = Buffer.concat([HANDSHAKE, numbers(128 * 1024), Buffer.alloc(10)]);
    reader.read(claim, () => undefined);
    return reader;
  });
  const grownBytes = process.memoryUsage().arrayBuffers - before;
  assert.ok(grownBytes < readers.length * 16 * 1024, `${grownBytes} bytes`);
});
