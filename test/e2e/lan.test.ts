/** Machines on one local network, each in a network namespace: who finds whom, over which addresses. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheProcess } from '../support/cache-process.ts';
import { Lab, mirrorOf, narBytesOf } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';

/** What README has a firewall let in. */
const OPEN = { tcp: [6881, 8081], udp: [6771] };

suite('machines on one local network', () => {
  let lab: Lab;
  let lan: Lan;
  let made: MadeClosure;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    lan = lab.use(Lan.open());
    made = await lab.closure([600_000, 20_000, 5_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Publishes in a host, without the DHT; the port for peers and the one of the map's mirror are those of README. */
  async function publish(host: Host, ...args: readonly string[]): Promise<string> {
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
    const where = ['--key', lab.path('key'), '--no-dht', '--port', '6881', '--http-port', '8081'];
    const { ready } = await lab.service(['publish', ...what, ...where, ...args], { wrapper: host.wrapper });
    return String(ready['address']);
  }

  /** Fetches without the DHT. @returns the bytes that came from each source */
  async function fetchIn(host: Host, ...args: readonly string[]): Promise<Record<string, number>> {
    const into = [
      '--store',
      await lab.folder('store'),
      '--trusted-public-key',
      made.publicKey,
      '--no-copy',
      '--no-dht',
    ];
    const run = await lab.run(['fetch', ...args, ...into], { wrapper: host.wrapper });
    assert.equal(run.status, 0, run.stderr);
    const sources = run.event('done')['sources'] as { source: string; kind: string; bytes: number }[];
    return Object.fromEntries(sources.map(({ source, bytes }) => [source, bytes]));
  }

  test('through firewalls with the ports open that README names, everything comes from the neighbour', async () => {
    const server = lan.host('server', { firewall: OPEN });
    const client = lan.host('client', { firewall: { udp: OPEN.udp } });
    const mirror = mirrorOf(await publish(server), `http://${server.ipv4}:8081`);
    const from = await fetchIn(client, 'lab', '--publisher', mirror, '--no-upstream');
    assert.deepEqual(from, { [`${server.ipv4}:6881`]: await narBytesOf(made.cacheDir) });
  });

  test('a cache is reached over IPv6 alone', async () => {
    const server = lan.host('cache6', { addresses: 'ula' });
    const client = lan.host('client6', { addresses: 'ula' });
    await using cache = await startCacheProcess(made.cacheDir, server.wrapper);
    const url = `http://[${server.ula}]:${cache.port}`;
    assert.deepEqual(await fetchIn(client, made.root, '--from', url), { [url]: await narBytesOf(made.cacheDir) });
    assert.notEqual((await cache.requests()).length, 0);
  });
});
