/** Reads shards from members that lie, lack them, are slow, or break the protocol. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimit } from '../../../src/bytes/rate-limit.ts';
import { formatMessage } from '../../../src/exchange/messages/format-message.ts';
import { OUR_EXTENSION_ID } from '../../../src/exchange/messages/handshake.ts';
import type { InfoHash } from '../../../src/nix/brands.ts';
import { MemberShards, type AskedShard } from '../../../src/index/files/member-shards.ts';
import { ID, RawPeer } from '../../support/raw-peer.ts';
import { GROUP, madeFile, startMember, type MadeFile, type MadeMember } from '../../exchange/exchange-fixture.ts';

const INFO_HASH = '12'.repeat(20) as InfoHash;
const SHARD = madeFile(300_000);
const OTHER = madeFile(20_000, 2);
const { signal } = new AbortController();

function asked({ file, bytes }: MadeFile): AskedShard {
  return { sha256: file, sizeBytes: bytes.length };
}

async function started(t: TestContext, options: Parameters<typeof startMember>[0] = {}): Promise<MadeMember> {
  const member = await startMember(options);
  t.after(() => member[Symbol.asyncDispose]());
  return member;
}

/** Starts a machine that asks, and connects it to these members in this order. */
async function askerOf(t: TestContext, ...givers: readonly MadeMember[]): Promise<MadeMember> {
  const asker = await started(t);
  for (const giver of givers) {
    const met = once(asker.members, 'member');
    asker.meet(giver);
    await met;
  }
  return asker;
}

suite('the shards of members', { concurrency: true, timeout: 180_000 }, () => {
  test('a wrong shard is refused, the next member is asked, and the liar is not asked again', async (t) => {
    const liar = await started(t, { files: [SHARD, OTHER] });
    liar.offer.lies = true;
    const honest = await started(t, { files: [SHARD, OTHER] });
    const shards = new MemberShards((await askerOf(t, liar, honest)).members, GROUP);
    assert.deepEqual(await shards.read(asked(SHARD), signal), SHARD.bytes);
    assert.deepEqual(await shards.read(asked(OTHER), signal), OTHER.bytes);
    assert.deepEqual([liar.offer.asked.length, honest.offer.asked.length], [1, 2]);
  });

  test('a member that lacks a shard is asked for others', async (t) => {
    const some = await started(t, { files: [OTHER] });
    const all = await started(t, { files: [SHARD, OTHER] });
    const shards = new MemberShards((await askerOf(t, some, all)).members, GROUP);
    assert.deepEqual(await shards.read(asked(SHARD), signal), SHARD.bytes);
    assert.deepEqual(await shards.read(asked(OTHER), signal), OTHER.bytes);
    assert.deepEqual([some.offer.asked.length, all.offer.asked.length], [2, 1]);
  });

  test('the next member is asked while one is silent, and first from then on', async (t) => {
    const silent = await started(t, { files: [SHARD, OTHER] });
    silent.offer.gate = sleep(20_000, undefined, { ref: false }); // if it were waited for, it would give the shard
    const quick = await started(t, { files: [SHARD, OTHER] });
    const shards = new MemberShards((await askerOf(t, silent, quick)).members, GROUP);
    assert.deepEqual(await shards.read(asked(SHARD), signal), SHARD.bytes);
    assert.deepEqual(await shards.read(asked(OTHER), signal), OTHER.bytes);
    assert.deepEqual([silent.offer.asked.length, quick.offer.asked.length], [1, 2]);
  });

  test('a slow member continues where it was stopped', async (t) => {
    const slow = await started(t, { files: [SHARD], uploadLimit: new RateLimit(80_000) });
    const shards = new MemberShards((await askerOf(t, slow)).members, GROUP);
    assert.deepEqual(await shards.read(asked(SHARD), signal), SHARD.bytes);
    const [first, second] = slow.offer.asked;
    assert.equal(first?.from, 0);
    assert.ok(second !== undefined && second.from > 0, 'what has arrived is kept');
  });

  test('a member that says it holds an edition is asked first', async (t) => {
    const first = await started(t, { files: [SHARD] });
    const holder = await started(t, { files: [SHARD] });
    const asker = await askerOf(t, first, holder);
    const told = once(asker.members, 'edition');
    holder.members.tellEdition({ group: GROUP, seq: 5, infoHash: INFO_HASH });
    await told;
    assert.deepEqual(await new MemberShards(asker.members, GROUP).read(asked(SHARD), signal), SHARD.bytes);
    assert.deepEqual([first.offer.asked.length, holder.offer.asked.length], [0, 1]);
  });

  test('a member that sends more than the shard is disconnected, and the next one is asked', async (t) => {
    const asker = await started(t);
    const met = once(asker.members, 'member');
    const liar = await RawPeer.connect(asker.port, GROUP);
    t.after(() => liar.socket.destroy());
    liar.extended(0, 'd1:md13:nar_exchange2i9eee');
    await met;
    const reading = new MemberShards(asker.members, GROUP).read(asked(OTHER), signal);
    const bytes = Buffer.alloc(OTHER.bytes.length + 1);
    liar.onMessage(({ id, payload }) => {
      const isGet = id === ID.EXTENDED && payload[0] === 9;
      if (isGet) liar.socket.write(formatMessage({ kind: 'data', id: 1, bytes }, OUR_EXTENSION_ID));
    });
    assert.equal(await reading, undefined);
    await liar.closed();
    const honest = await started(t, { files: [OTHER] });
    const again = once(asker.members, 'member');
    asker.meet(honest);
    await again;
    assert.deepEqual(await new MemberShards(asker.members, GROUP).read(asked(OTHER), signal), OTHER.bytes);
  });

  test('without a member, and after the end of the time, there is no shard', async (t) => {
    const alone = await started(t);
    assert.equal(await new MemberShards(alone.members, GROUP).read(asked(SHARD), signal), undefined);
    const silent = await started(t, { files: [SHARD] });
    silent.offer.gate = new Promise(() => undefined);
    const shards = new MemberShards((await askerOf(t, silent)).members, GROUP);
    assert.equal(await shards.read(asked(SHARD), AbortSignal.timeout(100)), undefined);
  });
});
