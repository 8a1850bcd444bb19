import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { suite, test, type TestContext } from 'node:test';
import { NarswarmError } from '../../src/errors.ts';
import { defaultPortInWords, listenAtFirst, RUN_PORTS, SERVICE_PORTS } from '../../src/wire/ports.ts';

const HOST = '127.0.0.1';

async function listen(t: TestContext, port: number): Promise<number> {
  const server: Server = createServer().listen(port, HOST);
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

suite('ports', () => {
  test('a port in use is skipped for the next one', async (t) => {
    const taken = await listen(t, 0);
    const port = await listenAtFirst([taken, 0], (one) => listen(t, one));
    assert.notEqual(port, taken);
    assert.equal(await listenAtFirst([0, taken], (one) => Promise.resolve(one)), 0);
  });

  test('the error of an only port is reported, wrapped or not', async (t) => {
    const taken = await listen(t, 0);
    await assert.rejects(
      listenAtFirst([taken], (port) => listen(t, port)),
      { code: 'EADDRINUSE' },
    );
    const wrapped = (port: number): Promise<number> =>
      listen(t, port).catch((cause: unknown) => {
        throw new NarswarmError('LISTEN_FAILED', 'in use', { cause });
      });
    assert.ok((await listenAtFirst([taken, 0], wrapped)) > 0);
    await assert.rejects(listenAtFirst([taken, taken], wrapped), { code: 'LISTEN_FAILED' });
  });

  test('an address of another machine is not tried again', async () => {
    const tried: number[] = [];
    const fails = (port: number): Promise<never> => {
      tried.push(port);
      return Promise.reject(Object.assign(new Error('no such address'), { code: 'EADDRNOTAVAIL' }));
    };
    await assert.rejects(listenAtFirst([1, 2, 3], fails), { code: 'EADDRNOTAVAIL' });
    assert.deepEqual(tried, [1]);
  });

  test('the defaults are outside the range of outgoing connections, and a run leaves the daemon’s port free', () => {
    const all = [...SERVICE_PORTS.peers, ...SERVICE_PORTS.dht, ...SERVICE_PORTS.http].filter((port) => port !== 0);
    for (const port of all) assert.ok(port > 16_162 && port < 16_309, String(port)); // unassigned by IANA
    assert.ok(!RUN_PORTS.peers.includes(SERVICE_PORTS.peers[0] ?? 0));
    assert.ok(RUN_PORTS.peers.every((port) => SERVICE_PORTS.peers.includes(port)));
    assert.equal(new Set([SERVICE_PORTS.peers[0], ...RUN_PORTS.peers, ...SERVICE_PORTS.http]).size, 10);
  });

  test('help names the default ports', () => {
    assert.equal(defaultPortInWords(SERVICE_PORTS.peers), 'the first of 16277 to 16284 that is free');
    assert.equal(defaultPortInWords(SERVICE_PORTS.http), '16276, or any if that is in use');
    assert.equal(defaultPortInWords(RUN_PORTS.dht), 'any that is free');
  });
});
