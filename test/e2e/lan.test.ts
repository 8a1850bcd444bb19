/** Machines on one local network, each in a network namespace, find each other over several kinds of addresses. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn, startCacheProcess } from '../support/cache-process.ts';
import { Lab, type CliProcess, mirrorOf, narBytesOf } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { Lan, type Host } from '../support/namespaces.ts';

/** Ports to open in a firewall: those that these tests name, and the default ones (README). */
const OPEN = { tcp: [6881, 8081], udp: [6771] };
const OPEN_BY_DEFAULT = { tcp: [16_277, 16_276], udp: [6771] };

/** A hash map that a key has signed: its address and its folder. */
interface MadeMap {
  readonly made: MadeClosure;
  readonly key: string;
  readonly address: string;
  readonly dir: string;
}

suite('machines on one local network', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let map: MadeMap;

  before(async () => {
    ({ lab, made } = await openLanLab([600_000, 20_000, 5_000]));
    map = await makeMap(made);
  });
  after(() => lab[Symbol.asyncDispose]());

  const whatOf = ({ cacheDir, root, publicKey }: MadeClosure): string[] => [
    '--store',
    cacheDir,
    '--root',
    `lab=${root}`,
    '--trusted-public-key',
    publicKey,
  ];

  async function makeMap(of: MadeClosure): Promise<MadeMap> {
    const key = lab.path('key');
    const event = (await lab.run(['publish', '--once', '--key', key, ...whatOf(of)])).event('published');
    return { made: of, key, address: String(event['address']), dir: String(event['dir']) };
  }

  /** Publishes in a host, without the DHT; the port for peers and the one of the map's mirror are those of README. */
  async function publish(host: Host, { made: of, key } = map, ...args: readonly string[]): Promise<CliProcess> {
    const where = ['--key', key, '--no-dht', '--port', '6881', '--http-port', '8081', ...args];
    return (await lab.service(['publish', ...whatOf(of), ...where], { wrapper: host.wrapper })).process;
  }

  /** Fetches without the DHT. @returns the bytes that came from each cache, by its URL, and from each neighbour, by its host */
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
    const from: Record<string, number> = {};
    for (const { source, kind, bytes } of sources) {
      // A neighbour may be the one that has connected: then its port means nothing, and IPv4 is mapped into IPv6.
      const name =
        kind === 'upstream'
          ? source
          : source
              .replace(/:\d+$/, '')
              .replace(/^::ffff:/, '')
              .replaceAll(/[[\]]/g, '');
      from[name] = (from[name] ?? 0) + bytes;
    }
    return from;
  }

  /** Fetches from neighbours alone; the map comes from a mirror in the same host. @returns as {@link fetchIn} */
  async function fetchFromPeers(host: Host): Promise<Record<string, number>> {
    await using mirror = await startCacheProcess(map.dir, host.wrapper);
    const url = `http://127.0.0.1:${mirror.port}`;
    return await fetchIn(host, 'lab', '--publisher', mirrorOf(map.address, url), '--no-upstream');
  }

  test('with the ports of README open in the firewalls, everything comes from the neighbour', async () => {
    await using lan = Lan.open();
    const server = lan.host('server', { firewall: OPEN });
    const client = lan.host('client', { firewall: { udp: OPEN.udp } });
    await publish(server);
    const mirror = mirrorOf(map.address, `http://${server.ipv4}:8081`);
    const from = await fetchIn(client, 'lab', '--publisher', mirror, '--no-upstream');
    assert.deepEqual(from, { [server.ipv4]: await narBytesOf(made.cacheDir) });
  });

  test('without the DHT, the publisher’s address is enough: a neighbour tells of its hash map', async () => {
    await using lan = Lan.open();
    const server = lan.host('server', { firewall: OPEN });
    const client = lan.host('client', { firewall: { udp: OPEN.udp } });
    await publish(server);
    const from = await fetchIn(client, 'lab', '--publisher', map.address, '--no-upstream');
    assert.deepEqual(from, { [server.ipv4]: await narBytesOf(made.cacheDir) });
  });

  test('without the DHT, its address is enough though other processes have published its hash map since', async () => {
    await using lan = Lan.open();
    const server = lan.host('server');
    const client = lan.host('client');
    const again = await makeMap(await lab.closure([20_000], 'again'));
    await publish(server, again);
    // Each is another edition. Only the newest two are kept on the disk.
    for (const hint of ['10.77.0.98:1', '10.77.0.98:2', '10.77.0.98:3'])
      await lab.run(['publish', '--once', '--key', again.key, ...whatOf(again.made), '--hint', hint]);
    const trust = ['--trusted-public-key', again.made.publicKey];
    const from = await fetchIn(client, 'lab', '--publisher', again.address, '--no-upstream', ...trust);
    assert.deepEqual(from, { [server.ipv4]: await narBytesOf(again.made.cacheDir) });
  });

  for (const [what, subnet, firewall] of [
    ['behind firewalls, at the default ports', '10.77.0', OPEN_BY_DEFAULT],
    ['with public addresses', '130.92.1', undefined],
  ] as const) {
    test(`beside a cache, ${what}, everything comes from the publisher, known by its mirror`, async () => {
      await using stack = new AsyncDisposableStack();
      const lan = stack.use(Lan.open({ subnet }));
      const slow = lan.host('cache', { upKbit: 500 });
      const cache = stack.use(await startCacheOn(slow, made.cacheDir));
      const options = firewall === undefined ? {} : { firewall };
      const server = lan.host('server', options);
      await lab.service(['publish', ...whatOf(made), '--key', map.key, '--no-dht'], { wrapper: server.wrapper });
      const mirror = mirrorOf(map.address, `http://${server.ipv4}:16276`);
      const client = lan.host('client', options);
      const from = await fetchIn(client, 'lab', '--publisher', mirror, '--from', cache.url);
      // A cache may be first with what is asked for first.
      assert.ok((from[server.ipv4] ?? 0) >= 0.9 * (await narBytesOf(made.cacheDir)), JSON.stringify(from));
    });
  }

  test('a cache is reached over IPv6 alone', async () => {
    await using lan = Lan.open();
    const server = lan.host('cache6', { addresses: 'ula' });
    const client = lan.host('client6', { addresses: 'ula' });
    await using cache = await startCacheOn(server, made.cacheDir);
    const { url } = cache;
    assert.equal(url, `http://[${server.ula}]:${cache.port}`);
    assert.deepEqual(await fetchIn(client, made.root, '--from', url), { [url]: await narBytesOf(made.cacheDir) });
    assert.notEqual((await cache.requests()).length, 0);
  });

  for (const addresses of ['link-local', 'ula'] as const) {
    test(`over IPv6 alone (${addresses}) everything comes from the neighbour`, async () => {
      await using lan = Lan.open();
      const server = lan.host(`s-${addresses}`, { addresses, firewall: OPEN });
      const client = lan.host(`c-${addresses}`, { addresses, firewall: { udp: OPEN.udp } });
      await publish(server, map, ...(addresses === 'link-local' ? ['--listen', `${server.linkLocal}%eth0`] : []));
      assert.deepEqual(await fetchFromPeers(client), {
        [`${server.linkLocal}%eth0`]: await narBytesOf(made.cacheDir),
      });
    });
  }

  test('a neighbour with IPv4 and IPv6 counts as one peer, even without a link-local address', async () => {
    await using lan = Lan.open();
    const both = lan.host('both');
    const ulaOnly = lan.host('ula-only', { addresses: 'ula' });
    ulaOnly.ip(`address delete ${ulaOnly.linkLocal}/64 dev eth0`);
    await Promise.all([publish(both), publish(ulaOnly)]);
    const client = lan.host('c-both', { addresses: 'v4' });
    client.addAddresses('ula');
    const sources = Object.keys(await fetchFromPeers(client));
    for (const source of sources) assert.ok([both.ipv4, ulaOnly.ula].includes(source), source);
  });

  test('a machine that was started before its network is found', async () => {
    await using lan = Lan.open();
    const server = lan.host('early', { addresses: 'none' });
    const client = lan.host('c-early');
    await publish(server);
    const fetching = fetchFromPeers(client);
    server.addAddresses('v4');
    assert.deepEqual(await fetching, { [server.ipv4]: await narBytesOf(made.cacheDir) });
  });

  test('beside a slow cache, a neighbour that is found late is still used', async () => {
    await using lan = Lan.open();
    const slow = lan.host('slow', { upKbit: 500 });
    const server = lan.host('server', { addresses: 'none' });
    const client = lan.host('client');
    const many = await makeMap(
      await lab.closure(
        Array.from({ length: 24 }, () => 30_000),
        'many',
      ),
    );
    await using cache = await startCacheOn(slow, many.made.cacheDir);
    await publish(server, many);
    await using mirror = await startCacheProcess(many.dir, client.wrapper);
    const publisher = mirrorOf(many.address, `http://127.0.0.1:${mirror.port}`);
    const from = ['--from', cache.url, '--trusted-public-key', many.made.publicKey];
    const into = ['--store', await lab.folder('store'), '--no-copy', '--no-dht'];
    const fetching = lab.start(['fetch', 'lab', '--publisher', publisher, ...from, ...into], {
      wrapper: client.wrapper,
    });
    await fetching.event('plan');
    server.addAddresses('v4');
    const run = await fetching.end();
    assert.equal(run.status, 0, run.stderr);
    const bytes = run.event('done')['bytes'] as { peers: number; total: number };
    assert.ok(bytes.peers > bytes.total / 4, JSON.stringify(bytes));
  });

  for (const addresses of ['v4-only', 'link-local'] as const) {
    test(`an interface that was made again with the same address (${addresses}) is used again`, async () => {
      await using lan = Lan.open();
      const server = lan.host(`d-${addresses}`, { addresses });
      const client = lan.host(`e-${addresses}`, { addresses });
      const listed = (): string => server.run('ip', '-o', 'address', 'show', 'dev', 'eth0');
      await publish(server);
      const atFirst = listed().replaceAll(/^\d+/gm, '');
      server.detach();
      server.attach();
      assert.equal(listed().replaceAll(/^\d+/gm, ''), atFirst);
      const host = addresses === 'v4-only' ? server.ipv4 : `${server.linkLocal}%eth0`;
      assert.deepEqual(await fetchFromPeers(client), { [host]: await narBytesOf(made.cacheDir) });
    });
  }

  for (const [what, nameOf] of [
    ['of container engines', (index: number) => `br-${index.toString(16).padStart(12, '0')}`],
    ['of any name', (index: number) => `bridge${index}`],
  ] as const) {
    test(`a machine with sixty bridges ${what} is found without a warning`, async () => {
      await using lan = Lan.open();
      const server = lan.host(`s-${nameOf(0).slice(0, 6)}`);
      server.detach();
      for (const [index, name] of Array.from({ length: 60 }, (_, number) => nameOf(number)).entries()) {
        server.ip(
          `link add ${name} type bridge`,
          `address add 172.16.${index}.1/24 dev ${name}`,
          `link set ${name} up`,
        );
      }
      server.attach();
      const client = lan.host(`c-${nameOf(0).slice(0, 6)}`);
      const process = await publish(server);
      assert.deepEqual(await fetchFromPeers(client), { [server.ipv4]: await narBytesOf(made.cacheDir) });
      assert.equal((await process.stop()).stderr.includes('warning'), false);
    });
  }
});
