import assert from 'node:assert/strict';
import Wire from 'bittorrent-protocol';
import { MessageGuard } from '../../../src/wire/message-guard.ts';
import { handshakeOf, ID, message, numbers } from '../../support/raw-peer.ts';
import type { FuzzTarget } from '../target.ts';

const INFO_HASH = 'a'.repeat(40);
const SHAPE = { pieces: 3, pieceLength: 32_768, lengthBytes: 70_000 };
const EXTENSIONS: Readonly<Record<number, string>> = { 1: 'ut_metadata', 2: 'lt_donthave', 3: 'nar_exchange' };

const SOUND = [
  message(ID.UNCHOKE),
  message(ID.INTERESTED),
  message(ID.HAVE, numbers(2)),
  message(ID.BITFIELD, Buffer.of(0xe0)),
  message(ID.REQUEST, numbers(0, 16_384, 16_384)),
  message(ID.PIECE, Buffer.concat([numbers(1, 0), Buffer.alloc(64)])),
  message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai7e6:ut_pexi0ee13:metadata_sizei99ee')),
  message(ID.EXTENDED, Buffer.from('\x01d8:msg_typei1e5:piecei0e10:total_sizei99eexxxx')),
  message(ID.EXTENDED, Buffer.concat([Buffer.of(2), numbers(2)])),
];

/** The peer protocol (BEP 3, 6, 10): no library sees a number that is not of the torrent. */
export function wire(): FuzzTarget {
  return {
    corpus: [Buffer.concat(SOUND), ...SOUND],
    words: ['\0\0\0\x05\x04', '\0\0\0\x0d\x06', '\0\0\0\x01\x0e', '\0\0\0\x20\x14\0', 'd1:m', 'e', '\xff\xff\xff\xff'],
    read(input) {
      const guard = new MessageGuard({ shape: () => SHAPE, extension: (id) => EXTENSIONS[id] });
      const peer = new Wire('tcpIncoming');
      peer.on('error', () => undefined);
      peer.on('have', (index: number) => assert.ok(index < SHAPE.pieces));
      peer.on('request', (index: number, offset: number, length: number) => {
        assert.ok(index * SHAPE.pieceLength + offset + length <= SHAPE.lengthBytes);
      });
      const middle = input.length >> 1;
      for (const chunk of [handshakeOf(INFO_HASH), input.subarray(0, middle), input.subarray(middle)]) {
        if (!guard.accept(chunk)) break;
        peer._write(chunk, () => undefined);
      }
      peer.destroy();
    },
  };
}
