import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkInterfaces } from 'node:os';
import { Discovery, retryMs, type DiscoveryOptions } from '../../src/discovery/discovery.ts';
import { ForeignAddresses } from '../../src/discovery/foreign-addresses.ts';
import { LocalNetworks } from '../../src/discovery/local-networks.ts';
import { PeerTable, type PeerOrigin } from '../../src/discovery/peer-table.ts';

test('lookups that find nobody become rarer, down to one a minute', () => {
  const seconds = Array.from({ length: 8 }, (_, inVain) => retryMs(inVain) / 1000);
  assert.deepEqual(seconds, [2, 4, 8, 16, 32, 60, 60, 60]);
});

/** The hosts that a discovery takes in, of those that are named by these ways. */
async function takenIn(onLoopback: boolean, hosts: readonly string[], origin: PeerOrigin): Promise<string[]> {
  const table = new PeerTable();
  const options: DiscoveryOptions = {
    peerPort: 6881,
    openDht: async () => undefined,
    networks: new LocalNetworks(),
    addresses: new ForeignAddresses({ onLoopback }),
    lan: false,
    announce: false,
    wan: true,
  };
  await using discovery = await Discovery.start(table, options);
  for (const host of hosts) discovery.add({ host, port: 6882 }, origin);
  return discovery.candidates().map(({ endpoint }) => endpoint.host);
}

test('what others name leads neither to loopback nor, from the DHT, to this machine', async () => {
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(({ internal }) => !internal)
    .map(({ address }) => address);
  const back = ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1', '0.0.0.0', '::', '224.0.0.1', '255.255.255.255'];
  const away = ['192.0.2.7', '2001:db8::7'];
  for (const origin of ['dht', 'lan', 'hint'] as const) {
    assert.deepEqual(await takenIn(false, [...back, ...away], origin), away, origin);
  }
  assert.deepEqual(await takenIn(false, own, 'dht'), []);
  assert.deepEqual(await takenIn(false, ['127.0.0.1'], 'given'), ['127.0.0.1'], 'a person may name anything');
  assert.deepEqual(await takenIn(true, ['127.0.0.1', '0.0.0.0'], 'dht'), ['127.0.0.1']);
});
