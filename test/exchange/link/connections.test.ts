/** Connections between members: groups, encryption, limits, machines that are off. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimit } from '../../../src/bytes/rate-limit.ts';
import type { Member } from '../../../src/exchange/member.ts';
import type { InfoHash, StoreHash } from '../../../src/nix/brands.ts';
import { startSilentPeer } from '../../support/silent-peer.ts';
import { endSoon, GROUP, madeFile, startMember, type MadeMember } from '../exchange-fixture.ts';

const SIGNAL = new AbortController().signal;
const LIMIT = { timeout: 180_000 };
const OTHER_GROUP = 'ef'.repeat(20) as InfoHash;

async function memberOf({ members }: MadeMember): Promise<Member> {
  const [first] = members.open;
  return first ?? ((await once(members, 'member')) as [Member])[0];
}

suite('connections of members', { concurrency: 4 }, () => {
  after(endSoon);

  test('a peer is tried for each group, and keeps the one that it knows', LIMIT, async () => {
    await using seeder = await startMember({ group: OTHER_GROUP });
    await using client = await startMember();
    client.members.join(OTHER_GROUP);
    client.meet(seeder);
    const member = await memberOf(client);
    assert.ok(member.isOpen);
  });

  test('a group is tried once it is joined', LIMIT, async () => {
    await using seeder = await startMember({ group: OTHER_GROUP });
    await using client = await startMember();
    client.meet(seeder);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(client.members.open.size, 0);
    client.members.join(OTHER_GROUP);
    await memberOf(client);
  });

  test('a group that is left keeps no member, and lets none in', LIMIT, async () => {
    await using seeder = await startMember({ group: OTHER_GROUP });
    await using both = await startMember();
    await using client = await startMember();
    both.members.join(OTHER_GROUP);
    client.members.join(OTHER_GROUP);
    client.meet(seeder);
    client.meet(both);
    while (client.members.open.size < 2) await sleep(5);
    client.members.leave(OTHER_GROUP);
    while (seeder.members.open.size > 0) await sleep(5);
    seeder.meet(client); // is refused
    while ([...client.members.open].length !== 1 || both.members.open.size !== 1) await sleep(5); // for one group
    assert.equal(seeder.members.open.size, 0);
    client.members.join(OTHER_GROUP); // again
    while (client.members.open.size < 2) await sleep(5);
  });

  test('machines that are off or silent keep no other from being met', LIMIT, async () => {
    await using silent = await startSilentPeer();
    await using seeder = await startMember();
    await using client = await startMember();
    for (let count = 0; count < 40; count++) {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      server.close(); // nobody listens there
      client.meet({ port });
    }
    const silentPort = Number(silent.address.split(':')[1]);
    for (let count = 0; count < 30; count++) {
      const record = client.peers.add({ host: `127.0.1.${count + 1}`, port: silentPort });
      client.members.addPeer(record);
    }
    client.meet(seeder);
    await memberOf(client);
  });

  test('a group with all its places taken keeps no other group, and no named peer, from being met', LIMIT, async () => {
    await using crowd = new AsyncDisposableStack();
    await using client = await startMember({ isNear: false });
    for (let count = 1; count <= 13; count++) {
      const host = `127.0.2.${count}`;
      client.find(crowd.use(await startMember({ host })), host);
      // one that is slow to answer takes no place
      while (client.members.open.size < Math.min(count, 12)) await sleep(5);
    }
    await using publisher = await startMember({ group: OTHER_GROUP, host: '127.0.3.1' });
    client.members.join(OTHER_GROUP);
    client.find(publisher, '127.0.3.1');
    const isMet = (host: string): boolean => [...client.members.open].some((member) => member.host === host);
    while (!isMet('127.0.3.1')) await sleep(5);
    await using named = await startMember();
    client.meet(named);
    while (!isMet('127.0.0.1')) await sleep(5);
    assert.equal(client.members.open.size, 14); // the thirteenth member of the first group has no place
  });

  test('members without any wanted file keep nobody from being met', LIMIT, async () => {
    const made = madeFile(1000);
    await using crowd = new AsyncDisposableStack();
    await using client = await startMember({ isNear: false });
    client.members.want([{ file: made.file, sizeBytes: 1000 }]);
    for (let count = 1; count <= 50; count++) {
      const host = `127.0.2.${count}`;
      client.find(crowd.use(await startMember({ host })), host);
    }
    while (client.members.open.size < 48) await sleep(5); // as many as may be idle
    await using holder = await startMember({ host: '127.0.3.1', files: [made] });
    client.find(holder, '127.0.3.1');
    while ([...client.members.open].every((member) => member.has(made.file) !== 'whole')) await sleep(5);
  });

  test('a broken connection to a member is opened again', LIMIT, async () => {
    await using seeder = await startMember();
    await using client = await startMember();
    const record = client.meet(seeder);
    record.bytes = 1; // it has sent good bytes before
    const member = await memberOf(client);
    const again = once(client.members, 'member');
    member.drop();
    await again;
  });

  test('narinfos and shards do not wait for the limit', LIMIT, async () => {
    const [nar, shard, hash] = [madeFile(800_000, 1), madeFile(3_000, 2), 'a'.repeat(32) as StoreHash];
    await using seeder = await startMember({ files: [nar, shard] });
    seeder.offer.narInfos.set(hash, 'StorePath: /nix/store/a\n');
    await using client = await startMember({ downloadLimit: new RateLimit(100) }); // hours for the NAR
    client.meet(seeder);
    const member = await memberOf(client);
    const begun = Promise.withResolvers<void>();
    const stop = new AbortController();
    const all = { from: 0, length: nar.bytes.length };
    const getting = member.get({ file: nar.file, ...all }, () => begun.resolve(), stop.signal);
    await begun.promise;
    assert.deepEqual(await member.narInfos([hash], SIGNAL), ['StorePath: /nix/store/a\n']);
    const ofShard = { file: shard.file, from: 0, length: shard.bytes.length };
    assert.equal(await member.get(ofShard, () => undefined, SIGNAL, { isUrgent: true }), 'complete');
    assert.ok(member.debtMs > 1_000, 'later bytes wait for these');
    stop.abort();
    await getting;
  });

  test('limits apply to both directions of every connection', LIMIT, async () => {
    const made = madeFile(400_000);
    for (const isOutgoing of [true, false]) {
      for (const limited of ['client', 'seeder'] as const) {
        const limit = new RateLimit(400_000);
        await using seeder = await startMember({ files: [made], ...(limited === 'seeder' && { uploadLimit: limit }) });
        await using client = await startMember({ ...(limited === 'client' && { downloadLimit: limit }) });
        if (isOutgoing) client.meet(seeder);
        else seeder.meet(client);
        const member = await memberOf(client);
        const startedAtMs = performance.now();
        const outcome = await member.get({ file: made.file, from: 0, length: 400_000 }, () => undefined, SIGNAL);
        assert.equal(outcome, 'complete');
        const again = await member.get({ file: made.file, from: 0, length: 100_000 }, () => undefined, SIGNAL);
        assert.equal(again, 'complete');
        assert.ok(performance.now() - startedAtMs > 600, `${limited}, ${isOutgoing}`); // less the burst
      }
    }
  });

  test('each of many members has one connection', LIMIT, async () => {
    const made = madeFile(1000);
    await using seeder = await startMember({ files: [made] });
    const clients = await Promise.all(Array.from({ length: 20 }, () => startMember()));
    try {
      for (const client of clients) client.meet(seeder);
      await Promise.all(clients.map((client) => memberOf(client)));
      while (seeder.members.open.size < 20) await once(seeder.members, 'member');
      assert.equal(new Set([...seeder.members.open].map(({ peer }) => peer.address)).size, 20);
    } finally {
      for (const client of clients) await client[Symbol.asyncDispose]();
    }
  });

  test('members connect over IPv6', LIMIT, async () => {
    const made = madeFile(1000);
    await using seeder = await startMember({ host: '::1', files: [made] });
    await using client = await startMember();
    client.members.addPeer(client.peers.add({ host: '::1', port: seeder.port }));
    const member = await memberOf(client);
    assert.equal(await member.get({ file: made.file, from: 0, length: 1000 }, () => undefined, SIGNAL), 'complete');
    assert.equal([...seeder.members.open][0]?.peer.address, `[::1]:${client.port}`);
    seeder.members.ban([...seeder.members.open][0]!, 'it lied');
    assert.ok(seeder.peers.isBannedHost('::1'));
    assert.equal(seeder.members.groups.has(GROUP), true);
  });

  test('a member that connects over IPv4 to a dual socket is known by its IPv4 address', LIMIT, async () => {
    await using seeder = await startMember({ host: '::' });
    await using client = await startMember();
    client.meet(seeder);
    assert.equal((await memberOf(seeder)).peer.address, `127.0.0.1:${client.port}`);
  });
});
