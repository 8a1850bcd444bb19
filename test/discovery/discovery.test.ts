import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkInterfaces } from 'node:os';
import type { DhtNode } from '../../src/discovery/dht.ts';
import type { InfoHash } from '../../src/nix/brands.ts';
import { Discovery, retryMs, type DiscoveryOptions } from '../../src/discovery/discovery.ts';
import { ForeignAddresses } from '../../src/discovery/foreign-addresses.ts';
import { LocalNetworks } from '../../src/discovery/local-networks.ts';
import { PeerTable, type PeerOrigin } from '../../src/discovery/peer-table.ts';
import { networksOf } from '../support/made-networks.ts';

test('lookups that find nobody become rarer, down to one a minute', () => {
  const seconds = Array.from({ length: 8 }, (_, inVain) => retryMs(inVain) / 1000);
  assert.deepEqual(seconds, [2, 4, 8, 16, 32, 60, 60, 60]);
});

test('a swarm that is no longer followed is neither looked up nor announced', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const asked: string[] = [];
  const dht = {
    lookup: (infoHash: InfoHash) => {
      asked.push(infoHash);
      return Promise.resolve(0);
    },
    announce: () => Promise.resolve(),
  } as unknown as DhtNode;
  await using discovery = await Discovery.start(new PeerTable(), {
    peerPort: 6881,
    openDht: () => Promise.resolve(dht),
    networks: new LocalNetworks(),
    addresses: new ForeignAddresses({ onLoopback: false }),
    lan: false,
    announce: true,
    wan: true,
  });
  const [gone, kept] = ['a', 'b'].map((digit) => digit.repeat(40) as InfoHash);
  discovery.follow(gone!);
  discovery.follow(kept!);
  const turn = async (): Promise<string[]> => {
    t.mock.timers.tick(60_000);
    for (let step = 0; step < 20; step++) await Promise.resolve();
    return asked.splice(0);
  };
  assert.deepEqual(await turn(), [gone, kept]);
  assert.deepEqual(await turn(), [gone, kept]);
  discovery.unfollow(gone!);
  assert.deepEqual(await turn(), [kept]);
  discovery.follow(gone!);
  assert.deepEqual((await turn()).toSorted(), [gone, kept]);
});

test('the port of the router is announced in the DHT where it differs', async () => {
  const announced: number[] = [];
  let told: (() => void) | undefined;
  const dht = {
    lookup: () => Promise.resolve(0),
    announce: (_infoHash: InfoHash, port: number) => {
      announced.push(port);
      told?.();
      return Promise.resolve(0);
    },
  } as unknown as DhtNode;
  await using discovery = await Discovery.start(new PeerTable(), {
    peerPort: 6881,
    openDht: () => Promise.resolve(dht),
    networks: new LocalNetworks(),
    addresses: new ForeignAddresses({ onLoopback: false }),
    lan: false,
    announce: true,
    wan: true,
  });
  const next = async (infoHash: string): Promise<void> => {
    const isTold = new Promise<void>((resolve) => void (told = resolve));
    discovery.follow(infoHash as InfoHash);
    await isTold;
  };
  await next('a'.repeat(40));
  discovery.outerPort = 50_000;
  await next('b'.repeat(40));
  assert.deepEqual(announced, [6881, 50_000]);
});

/** Returns the hosts that a discovery accepts, of those that these ways name. */
async function takenIn(
  onLoopback: boolean,
  hosts: readonly string[],
  origin: PeerOrigin,
  wan = true,
): Promise<string[]> {
  const table = new PeerTable();
  const options: DiscoveryOptions = {
    peerPort: 6881,
    openDht: async () => undefined,
    networks: wan ? new LocalNetworks() : networksOf('192.168.1.2/24'),
    addresses: new ForeignAddresses({ onLoopback }),
    lan: false,
    announce: false,
    wan,
  };
  await using discovery = await Discovery.start(table, options);
  for (const host of hosts) discovery.add({ host, port: 6882 }, origin);
  return discovery.candidates().map(({ endpoint }) => endpoint.host);
}

test('addresses of others do not lead to loopback, nor those of the DHT to this machine', async () => {
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

test('on the local network alone, nobody beyond it is found, unless a person names them', async () => {
  const hosts = ['192.168.1.7', '192.168.2.7', '198.51.100.7', '2001:db8::7'];
  for (const origin of ['dht', 'lan', 'hint'] as const)
    assert.deepEqual(await takenIn(false, hosts, origin, false), ['192.168.1.7'], origin);
  assert.deepEqual(await takenIn(false, hosts, 'given', false), hosts);
});
