/** Default ports, on machines with and without firewalls. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { Lab, mirrorOf, narBytesOf } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { startCacheProcess } from '../support/cache-process.ts';

/** Ports that README opens in a firewall. */
const OPEN = { tcp: [16_276, 16_277, 16_278, 16_279, 16_280, 16_281, 16_282, 16_283, 16_284], udp: [6771, 16_277] };

suite('default ports', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    ({ lab, made } = await openLanLab([300_000, 20_000, 5_000]));
  });
  after(() => lab[Symbol.asyncDispose]());

  const serviceIn = async (host: Host, ...args: readonly string[]) =>
    lab.service([...args, '--trusted-public-key', made.publicKey], { wrapper: host.wrapper });
  const publishIn = (host: Host, ...args: readonly string[]) =>
    serviceIn(host, 'publish', '--store', made.cacheDir, '--root', `lab=${made.root}`, '--no-dht', ...args);
  const into = async (): Promise<string[]> => [
    '--store',
    await lab.folder('store'),
    '--trusted-public-key',
    made.publicKey,
    '--no-copy',
    '--no-dht',
  ];

  test('two users on one machine each have a daemon, and a fetch beside them does not mention ports', async () => {
    await using lan = Lan.open();
    const host = lan.host('shared');
    const first = await serviceIn(host, 'daemon', '--store', await lab.folder('store'));
    assert.equal(first.ready['port'], 16_277);
    const second = await serviceIn(host, 'daemon', '--store', await lab.folder('store'));
    assert.equal(second.ready['port'], 16_278);
    await using cache = await startCacheProcess(made.cacheDir, host.wrapper);
    const fetch = ['fetch', made.root, '--from', `http://127.0.0.1:${cache.port}`, '--seed-for', '1ms'];
    const run = await lab.run([...fetch, ...(await into())], { wrapper: host.wrapper });
    assert.equal(run.status, 0, run.stderr);
    assert.doesNotMatch(run.stderr, /port|in use/);
  });

  test('a daemon with a named port does not start at another one', async () => {
    await using lan = Lan.open();
    const host = lan.host('named');
    await serviceIn(host, 'daemon', '--store', await lab.folder('store'));
    const daemon = ['daemon', '--store', await lab.folder('store'), '--trusted-public-key', made.publicKey];
    const run = await lab.run([...daemon, '--port', '16277'], { wrapper: host.wrapper });
    assert.equal(run.status, 9, run.stderr);
    assert.match(run.stderr, /16277/);
  });

  test('a fetch never takes the default port of a daemon', async () => {
    await using lan = Lan.open();
    const host = lan.host('early');
    await using cache = await startCacheProcess(made.cacheDir, host.wrapper);
    const publisher = await publishIn(host);
    const mirror = String(publisher.ready['mirror']);
    await publisher.process.stop();
    const fetch = ['fetch', made.root, '--publisher', mirror, '--from', `http://127.0.0.1:${cache.port}`];
    const fetching = lab.start([...fetch, ...(await into()), '--seed-for', '10m'], { wrapper: host.wrapper });
    const seeding = await fetching.event('seeding');
    assert.equal(seeding['port'], 16_278);
    const daemon = await serviceIn(host, 'daemon', '--store', await lab.folder('store'));
    assert.equal(daemon.ready['port'], 16_277);
    await fetching.stop();
  });

  test('with the default ports open in the firewalls, everything comes from the neighbour', async () => {
    await using lan = Lan.open();
    const server = lan.host('server', { firewall: OPEN });
    const client = lan.host('client', { firewall: OPEN });
    const { ready } = await publishIn(server);
    const mirror = mirrorOf(String(ready['address']), `http://${server.ipv4}:16276`);
    assert.equal(ready['mirror'], mirror);
    const from = ['--publisher', mirror, '--no-upstream'];
    const run = await lab.run(['fetch', 'lab', ...from, ...(await into())], { wrapper: client.wrapper });
    assert.equal(run.status, 0, run.stderr);
    const bytes = run.event('done')['bytes'] as { peers: number };
    assert.equal(bytes.peers, await narBytesOf(made.cacheDir));
  });

  test('where multicast is blocked, a publisher’s mirror leads to its port for peers', async () => {
    await using lan = Lan.open();
    const server = lan.host('routed', { firewall: { tcp: OPEN.tcp } });
    const client = lan.host('far', { firewall: {} });
    const { ready } = await publishIn(server, '--no-lan');
    const from = ['--publisher', String(ready['mirror']), '--no-upstream', '--no-lan'];
    const run = await lab.run(['fetch', 'lab', ...from, ...(await into())], { wrapper: client.wrapper });
    assert.equal(run.status, 0, run.stderr);
    assert.equal((run.event('done')['bytes'] as { peers: number }).peers, await narBytesOf(made.cacheDir));
  });

  test('a hash map names the port for peers, and no address of its machine', async () => {
    await using lan = Lan.open();
    const server = lan.host('quiet');
    const client = lan.host('reader');
    const { ready } = await publishIn(server);
    const manifest = client.run('curl', '-sS', `http://${server.ipv4}:${String(ready['httpPort'])}/manifest`);
    assert.match(manifest, /^PeerPort: 16277$/m);
    assert.doesNotMatch(manifest, /^Peer: /m);
    assert.ok(!manifest.includes(server.ipv4));
  });

  test('a second daemon of a machine goes on without the HTTP port, unless it was told to use it', async () => {
    await using lan = Lan.open();
    const host = lan.host('twice');
    const first = await serviceIn(host, 'daemon', '--store', await lab.folder('store'));
    assert.deepEqual(first.ready['substituters'], ['http://127.0.0.1:16275', 'http://[::1]:16275']);
    const second = await serviceIn(host, 'daemon', '--store', await lab.folder('store'));
    assert.deepEqual(second.ready['substituters'], []);
    const told = ['daemon', '--store', await lab.folder('store'), '--substituter-port', '16275'];
    const run = await lab.run(told, { wrapper: host.wrapper });
    assert.equal(run.status, 9, run.stderr);
    assert.match(run.stderr, /16275.*choose another --substituter-port/);
  });

  test('a publisher that starts again has the same ports, mirror and edition', async () => {
    await using lan = Lan.open();
    const host = lan.host('again');
    const other = await serviceIn(host, 'daemon', '--store', await lab.folder('store'));
    const first = await publishIn(host);
    assert.equal(first.ready['port'], 16_278);
    await first.process.stop();
    await other.process.stop();
    const second = await publishIn(host);
    assert.deepEqual(
      ['port', 'httpPort', 'mirror'].map((key) => second.ready[key]),
      ['port', 'httpPort', 'mirror'].map((key) => first.ready[key]),
    );
    assert.equal((await second.process.event('built'))['isNew'], false);
  });
});
