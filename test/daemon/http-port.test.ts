/** The HTTP port of a daemon, which a whole site may use at once. */
import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpPort } from '../../src/daemon/http-port.ts';

/** Connections that Nix opens by default. */
const OF_ONE = 25;
const MACHINES = 20;

test('twenty machines have all connections of their Nix open at once', { timeout: 60_000 }, async () => {
  const { promise: allAsk, resolve } = Promise.withResolvers<void>();
  let asking = 0;
  await using port = await HttpPort.open({
    listen: [{ host: '127.0.0.1', port: 0 }],
    routes: (app) =>
      app.get('/held', async () => {
        if (++asking === MACHINES * OF_ONE) resolve();
        await allAsk;
        return 'here';
      }),
  });
  const url = `http://127.0.0.1:${port.addresses[0]?.port}/held`;
  const agents = Array.from({ length: MACHINES }, () => new Agent({ maxSockets: OF_ONE }));
  const asked = agents.flatMap((agent, machine) =>
    Array.from({ length: OF_ONE }, () => answerOf(url, agent, `127.0.1.${machine + 1}`)),
  );
  assert.deepEqual(new Set(await Promise.all(asked)), new Set([200]));
});

for (const [what, idle, expected] of [
  ['takes the place of an idle connection', 1, 200],
  ['is refused if all connections are busy', 0, undefined],
] as const)
  test(`a further host ${what}, and no answer is cut`, { timeout: 180_000 }, async (t) => {
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const { promise: bothAsk, resolve } = Promise.withResolvers<void>();
    let asking = 0;
    await using port = await HttpPort.open({
      listen: [{ host: '127.0.0.1', port: 0 }],
      maxConnections: 2 + idle,
      routes: (app) =>
        app
          .get('/', () => 'here')
          .get('/held', async () => {
            if (++asking === 2) resolve();
            await mayEnd;
            return 'here';
          }),
    });
    const url = `http://127.0.0.1:${port.addresses[0]?.port}`;
    const agent = new Agent({ keepAlive: true });
    t.after(() => agent.destroy());
    const held = [1, 2].map(() => answerOf(`${url}/held`, agent, '127.0.1.1'));
    await bothAsk;
    if (idle > 0) assert.equal(await answerOf(url, agent, '127.0.1.1'), 200); // its connection stays open
    const further = await answerOf(url, new Agent(), '127.0.1.2').catch(() => undefined);
    end();
    assert.deepEqual(await Promise.all(held), [200, 200]);
    assert.equal(further, expected);
  });

test('a client that takes no byte of an answer for too long is closed', { timeout: 180_000 }, async () => {
  const { promise: isClosed, resolve } = Promise.withResolvers<void>();
  const sizeBytes = 64 * 1024 * 1024; // more than the buffers of two sockets
  await using port = await HttpPort.open({
    listen: [{ host: '127.0.0.1', port: 0 }],
    idleMs: 300,
    routes: (app) =>
      app.get('/', (_, reply) => {
        reply.raw.once('close', resolve);
        return reply.send(Buffer.alloc(sizeBytes));
      }),
  });
  const socket = connect(port.addresses[0]?.port ?? 0, '127.0.0.1').pause();
  socket.on('error', () => undefined);
  socket.write('GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
  await isClosed;
  let bytes = 0;
  socket.on('data', (chunk) => (bytes += chunk.length));
  await new Promise((ended) => socket.once('close', ended).resume());
  assert.ok(bytes < sizeBytes);
});

test('a client that waits for an answer is not closed, however long that takes', { timeout: 60_000 }, async () => {
  const idleMs = 50;
  await using port = await HttpPort.open({
    listen: [{ host: '127.0.0.1', port: 0 }],
    idleMs,
    routes: (app) =>
      app.get('/', async () => {
        await sleep(10 * idleMs); // as for a NAR whose turn on a slow line has not come
        return 'here';
      }),
  });
  assert.equal(await answerOf(`http://127.0.0.1:${port.addresses[0]?.port}`, new Agent(), '127.0.0.1'), 200);
});

/** @param localAddress the address of the machine */
function answerOf(url: string, agent: Agent, localAddress: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(url, { agent, localAddress }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode));
    }).once('error', reject);
  });
}
