import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { MessageReader } from '../../../src/wire/message-reader.ts';
import { loneConnection, SHAPE } from '../../support/lone-connection.ts';
import { handshakeOf, ID } from '../../support/raw-peer.ts';
import type { FuzzTarget } from '../target.ts';
import { SOUND } from './swarm.ts';

const HANDSHAKE = handshakeOf('a'.repeat(40));

/** The peer protocol (BEP 3, 6, 10): no library sees a number outside the torrent, or an unrequested block. */
export function wire(): FuzzTarget {
  return {
    corpus: [Buffer.concat(SOUND), ...SOUND],
    words: ['\0\0\0\x05\x04', '\0\0\0\x0d\x06', '\0\0\0\x01\x0e', '\0\0\0\x20\x14\0', 'd1:m', 'e', '\xff\xff\xff\xff'],
    async read(input) {
      const { connection } = loneConnection(Buffer.concat([HANDSHAKE, input]));
      const seen = new MessageReader();
      let count = 0;
      connection.on('data', (bytes: Buffer) =>
        seen.read(bytes, (message) => {
          if (count++ > 0) check(message);
        }),
      );
      connection.on('error', () => undefined);
      connection.welcome({ 1: 'ut_metadata', 2: 'lt_donthave' });
      await nextTurn();
      connection.destroy();
    },
  };
}

function check(message: Buffer): void {
  if (message[4] === ID.HAVE) assert.ok(message.readUInt32BE(5) < SHAPE.pieces);
  assert.notEqual(message[4], ID.REQUEST, 'blocks are asked of the connection alone');
  assert.notEqual(message[4], ID.PIECE, 'nobody has asked for a block');
}
