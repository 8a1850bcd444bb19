import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RawPeer } from '../support/raw-peer.ts';
import type { Member } from '../../src/exchange/member.ts';
import type { InfoHash } from '../../src/nix/brands.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { StoreOffer } from '../../src/serve/store-offer.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { Network, type NetworkOptions } from '../../src/swarm/network.ts';
import { EXTENDED_BIT, KIND, newPeerId, PROTOCOL } from '../../src/wire/protocol.ts';
import { LEAF } from '../nix/fixtures.ts';
import { makeNar, startSeeder } from './swarm-fixture.ts';
import { entryFor, filledStore, infoOf, KEY } from '../store/store-fixture.ts';

const GROUP = 'cd'.repeat(20) as InfoHash;
const OPTIONS: NetworkOptions = {
  scope: 'lan',
  listen: '127.0.0.1',
  dht: false,
  lan: false,
  peers: [],
};

async function join(t: TestContext, options: Partial<NetworkOptions>): Promise<Network> {
  const network = await Network.join({ ...OPTIONS, ...options });
  t.after(() => network.close());
  network.joinCohort(GROUP);
  return network;
}

async function offerOf(t: TestContext, store: FileStore): Promise<StoreOffer> {
  const offer = await StoreOffer.open({ store, keys: [KEY], shareKeys: [KEY], onWarning: () => undefined });
  t.after(() => offer[Symbol.asyncDispose]());
  return offer;
}

test('a member of the same group gets a NAR and its narinfo over the port for all peers', async (t) => {
  const store = await filledStore(t);
  const offer = await offerOf(t, store);
  const entry = await entryFor(store, LEAF);
  await offer.catalogue.add([entry]);
  const seeder = await join(t, offer.forNetwork);
  const client = await join(t, { peers: [{ host: '127.0.0.1', port: seeder.swarm.port }] });
  client.members.want([{ file: entry.fileHash, sizeBytes: entry.sizeBytes }]);
  const [member] = (await once(client.members, 'have')) as [Member];
  const parts: Buffer[] = [];
  const { signal } = new AbortController();
  const range = { file: entry.fileHash, from: 0, length: entry.sizeBytes };
  assert.equal(await member.get(range, (bytes) => parts.push(Buffer.from(bytes)), signal), 'complete');
  assert.deepEqual(Buffer.concat(parts), await readFile(store.narPath(await infoOf(store, LEAF))));
  const hashes = [parseStoreHash(LEAF), parseStoreHash('a'.repeat(32))];
  assert.deepEqual(await member.narInfos(hashes, signal), [await store.readNarInfoText(hashes[0]!), undefined]);
});

test('a foreign client that names a group is disconnected after its extended handshake', async (t) => {
  const network = await join(t, {});
  const peer = await RawPeer.connect(network.swarm.port, GROUP);
  assert.equal(peer.infoHash, GROUP);
  assert.ok(peer.isOpen);
  peer.extended(0, 'd1:md11:ut_metadatai1eee');
  await peer.closed();
});

describe('a client that is asked for our group is asked for torrents at once', { timeout: 60_000 }, () => {
  const reserved = Buffer.of(0, 0, 0, 0, 0, EXTENDED_BIT, 0, 0);
  const greeting = (infoHash: string): Buffer[] => [PROTOCOL, reserved, Buffer.from(infoHash, 'hex'), newPeerId()];
  const extended = Buffer.from('d1:md11:ut_metadatai1eee');
  const head = Buffer.of(0, 0, 0, extended.length + 2, KIND.EXTENDED, 0);
  const answers = {
    'it closes without a byte': [],
    'it greets with its own torrent': greeting('ab'.repeat(20)),
    'it greets everybody alike, and speaks no exchange': [...greeting(GROUP), head, extended],
  };
  for (const [name, answer] of Object.entries(answers)) {
    test(name, async (t) => {
      const server = createServer((socket) => {
        socket.on('error', () => undefined).once('data', () => socket.end(Buffer.concat(answer)));
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      t.after(() => server.close());
      const network = await join(t, { peers: [{ host: '127.0.0.1', port: (server.address() as AddressInfo).port }] });
      while (network.foreigners().length === 0) await sleep(10, undefined, { signal: t.signal });
    });
  }
});

test('a swarm for members alone gives nothing to a client that names a torrent', async (t) => {
  const nar = await makeNar(t, 20_000);
  const seeder = await startSeeder(t, [nar.seed], { onlyMembers: true });
  const peer = await RawPeer.open(seeder.port, nar.torrent.infoHash);
  await peer.until(() => !peer.isOpen || peer.infoHash !== '');
  assert.equal(peer.infoHash, '');
});
