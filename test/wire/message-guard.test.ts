import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { MAX_PIECES } from '../../src/wire/bounds.ts';
import { MessageGuard, type TorrentShape } from '../../src/wire/message-guard.ts';
import { handshakeOf, ID, message, numbers } from '../support/raw-peer.ts';

const SHAPE = { pieces: 3, pieceLength: 32_768, lengthBytes: 70_000 };
const EXTENSIONS: Readonly<Record<number, string>> = { 1: 'ut_metadata', 2: 'lt_donthave', 3: 'nar_exchange' };

function guard(...[shape]: [TorrentShape | undefined]): MessageGuard {
  const made = new MessageGuard({ shape: () => shape, extension: (id) => EXTENSIONS[id] });
  assert.ok(made.accept(handshakeOf('a'.repeat(40))));
  return made;
}

/** Messages, each with whether a peer of that torrent may send it. */
const MESSAGES: readonly (readonly [bytes: Buffer, isSound: boolean])[] = [
  [numbers(0), true],
  [message(ID.UNCHOKE), true],
  [message(ID.UNCHOKE, Buffer.of(1)), false],
  [message(ID.HAVE, numbers(2)), true],
  [message(ID.HAVE, numbers(3)), false],
  [message(ID.BITFIELD, Buffer.of(0xe0)), true],
  [message(ID.BITFIELD, Buffer.alloc(2)), false],
  [message(ID.REQUEST, numbers(2, 0, 4464)), true],
  [message(ID.REQUEST, numbers(2, 0, 4465)), false],
  [message(ID.REQUEST, numbers(0, 16_384, 16_384)), true],
  [message(ID.REQUEST, numbers(0, 0, 0)), false],
  [message(ID.PIECE, Buffer.concat([numbers(1, 0), Buffer.alloc(16_384)])), true],
  [message(ID.PIECE, Buffer.concat([numbers(1, 20_000), Buffer.alloc(16_384)])), false],
  [message(9, Buffer.alloc(2)), true],
  [message(200, Buffer.alloc(40)), true],
  [message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai7e6:ut_pexi0ee13:metadata_sizei99ee')), true],
  [message(ID.EXTENDED, Buffer.from('\0d1:mde13:metadata_sizei-1ee')), false],
  [message(ID.EXTENDED, Buffer.from('\x01d8:msg_typei1e5:piecei0e10:total_sizei99eexxxx')), true],
  [message(ID.EXTENDED, Buffer.from('\x01le')), false],
  [message(ID.EXTENDED, Buffer.concat([Buffer.of(2), numbers(2)])), true],
  [message(ID.EXTENDED, Buffer.concat([Buffer.of(2), numbers(2), Buffer.of(0)])), false],
  [message(ID.EXTENDED, Buffer.concat([Buffer.of(3), Buffer.alloc(50_000)])), true],
  [message(ID.EXTENDED, Buffer.concat([Buffer.of(9), Buffer.alloc(5)])), true],
];

test('each message is judged the same however its bytes arrive', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...MESSAGES.filter(([, isSound]) => isSound)), { maxLength: 5 }),
      fc.constantFrom(...MESSAGES),
      fc.integer({ min: 1, max: 20_000 }),
      (before, [bytes, isSound], chunkBytes) => {
        const one = guard(SHAPE);
        const all = Buffer.concat([...before.map(([sound]) => sound), bytes]);
        let isAccepted = true;
        for (let at = 0; at < all.length && isAccepted; at += chunkBytes) {
          isAccepted = one.accept(all.subarray(at, at + chunkBytes));
        }
        assert.equal(isAccepted, isSound);
      },
    ),
  );
});

test('without metadata, the bounds of any torrent apply', () => {
  assert.ok(guard(undefined).accept(message(ID.HAVE, numbers(MAX_PIECES - 1))));
  assert.ok(!guard(undefined).accept(message(ID.HAVE, numbers(MAX_PIECES))));
  assert.ok(guard(undefined).accept(message(ID.BITFIELD, Buffer.alloc(100_000))));
  assert.ok(!guard(undefined).accept(message(ID.BITFIELD, Buffer.alloc(MAX_PIECES / 8 + 1))));
});

test('refuses a handshake of another protocol', () => {
  const one = new MessageGuard({ shape: () => SHAPE, extension: () => undefined });
  assert.ok(!one.accept(Buffer.from(`\x13BitTorrent protocoL${'x'.repeat(48)}`)));
});
