/** The HTTP port of a daemon, which a whole site may use at once. */
import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { test } from 'node:test';
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

/** @param localAddress the address of the machine */
function answerOf(url: string, agent: Agent, localAddress: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(url, { agent, localAddress }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode));
    }).once('error', reject);
  });
}
