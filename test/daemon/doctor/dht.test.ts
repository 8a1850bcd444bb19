import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { suite, test, type TestContext } from 'node:test';
import bencode from 'bencode';
import { askDht, formatQuery, parseAnswer } from '../../../src/daemon/doctor/dht.ts';
import { DhtNode } from '../../../src/discovery/dht.ts';

const LOOPBACK = { port: 0, host: '127.0.0.1' };
const PUBLIC = Buffer.of(203, 0, 113, 5, 0x3f, 0x95);

/** Starts a node that tells others the address at which it sees them. */
async function tellingNode(t: TestContext, answer: (query: { t: Uint8Array }) => unknown): Promise<number> {
  const socket: Socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.on('message', (packet, from) => {
    const query = bencode.decode(packet) as { t: Uint8Array };
    socket.send(Buffer.from(bencode.encode(answer(query))), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket.address().port;
}

suite('the doctor’s questions to the DHT', () => {
  test('are answered by a real node', async (t) => {
    await using node = await DhtNode.listen({ host: '127.0.0.1', bootstrap: [] });
    const { nodes } = await askDht([{ host: '127.0.0.1', port: node.port }], LOOPBACK, t.signal);
    assert.deepEqual(nodes, [{ node: `127.0.0.1:${node.port}`, failure: undefined }]);
  });

  test('find the address at which nodes see this machine', async (t) => {
    const port = await tellingNode(t, ({ t: transaction }) => ({
      ip: PUBLIC,
      r: { id: Buffer.alloc(20) },
      t: transaction,
      y: 'r',
    }));
    const { seenAs } = await askDht([{ host: '127.0.0.1', port }], LOOPBACK, t.signal);
    assert.deepEqual(seenAs, [{ host: '203.0.113.5', port: 16_277 }]);
  });

  test('ignore garbage and answers to other questions', async (t) => {
    const wrong = await tellingNode(t, () => ({ r: { id: Buffer.alloc(20) }, t: Buffer.from('else'), y: 'r' }));
    const { nodes } = await askDht([{ host: '127.0.0.1', port: wrong }], LOOPBACK, t.signal);
    assert.deepEqual(nodes, [{ node: `127.0.0.1:${wrong}`, failure: 'silent' }]);
    const transaction = Buffer.from('abcd');
    for (const packet of ['', 'x', '-3:', 'd1:t4:abcde', 'd1:rde1:ti5ee'])
      assert.equal(parseAnswer(Buffer.from(packet), transaction), undefined, packet);
    assert.equal(parseAnswer(formatQuery(transaction), transaction), undefined, 'a query is no answer');
  });
});
