/** A host requests much over many connections, while another member requests little. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, test } from 'node:test';
import { OUR_EXTENSION_ID } from '../../../src/exchange/messages/handshake.ts';
import { formatMessage } from '../../../src/exchange/messages/format-message.ts';
import { handshakeOf, ID, message } from '../../support/raw-peer.ts';
import { endSoon, GROUP, madeFile, startMember } from '../exchange-fixture.ts';

const LIMIT = { timeout: 180_000 };
const CONNECTIONS = 300;
const REQUESTS = 200;
const RANGE_BYTES = 10;
const FILE = madeFile(1000);
const HELLO = message(ID.EXTENDED, Buffer.from('\0d1:md13:nar_exchange2i2eee'));

after(endSoon);

/** Connects from an address of this machine, with its own peer id, and reads everything. */
function memberAt(port: number, localAddress: string, number: number): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => undefined).resume();
  socket.write(Buffer.concat([handshakeOf(GROUP, `-XX0001-${String(number).padStart(12, '0')}`), HELLO]));
  return socket;
}

function requests(count: number): Buffer {
  const ask = (id: number): Buffer =>
    formatMessage({ kind: 'get', id, file: FILE.file, from: 0, length: RANGE_BYTES }, OUR_EXTENSION_ID);
  return Buffer.concat(Array.from({ length: count }, (_, id) => ask(id)));
}

/** Waits for bytes of the file. */
async function answerTo(socket: Socket): Promise<void> {
  const head = FILE.bytes.subarray(0, RANGE_BYTES);
  let received = Buffer.alloc(0);
  while (!received.includes(head)) received = Buffer.concat([received, ...((await once(socket, 'data')) as [Buffer])]);
}

test('a host with 300 connections and 60,000 requests holds up another host for few answers', LIMIT, async () => {
  await using server = await startMember({ files: [FILE] });
  const honest = memberAt(server.port, '127.0.0.1', 0);
  await once(honest, 'data');
  const crowd = Array.from({ length: CONNECTIONS }, (_, index) => memberAt(server.port, '127.0.2.1', 1 + index));
  await Promise.all(crowd.map((socket) => once(socket, 'data')));
  for (const socket of crowd) socket.write(requests(REQUESTS));
  await Promise.all(crowd.map((socket) => answerTo(socket))); // all requests have been read, and wait
  /** Counts opened files and sent ranges. */
  const done = (): number => server.offer.asked.length + server.uploadedBytes / RANGE_BYTES;
  const before = done();
  assert.ok(before < CONNECTIONS * REQUESTS, 'the crowd waits');
  honest.write(requests(1));
  await answerTo(honest);
  assert.ok(done() - before < CONNECTIONS, `${done() - before} turns of the crowd came first`);
  for (const socket of [honest, ...crowd]) socket.destroy();
});
