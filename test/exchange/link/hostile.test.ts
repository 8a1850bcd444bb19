/** Members that break the protocol, ask without reading, or say nothing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, suite, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Member } from '../../../src/exchange/member.ts';
import { OUR_EXTENSION_ID } from '../../../src/exchange/messages/handshake.ts';
import { formatMessage } from '../../../src/exchange/messages/format-message.ts';
import { prefixOf, type FilePrefix, type Message } from '../../../src/exchange/messages/messages.ts';
import type { StoreHash } from '../../../src/nix/brands.ts';
import { MAX_WANTS } from '../../../src/wire/bounds.ts';
import { PacketBudget } from '../../../src/wire/packet-budget.ts';
import { ProcessorBudget } from '../../../src/wire/processor-budget.ts';
import { SendBudget } from '../../../src/wire/send-budget.ts';
import { ID, RawPeer } from '../../support/raw-peer.ts';
import { endSoon, GROUP, madeFile, startMember, type MadeMember } from '../exchange-fixture.ts';

const SIGNAL = new AbortController().signal;
const LIMIT = { timeout: 180_000 };
const FILE = madeFile(1000);

/** A peer by hand that has announced the exchange under id 9. */
async function intrude({ port }: MadeMember): Promise<RawPeer> {
  const peer = await RawPeer.connect(port, GROUP);
  peer.extended(0, 'd1:md13:nar_exchange2i9eee');
  await peer.receive(ID.EXTENDED);
  return peer;
}

function say(peer: RawPeer, message: Message): void {
  peer.socket.write(formatMessage(message, OUR_EXTENSION_ID));
}

/** Returns received messages of one kind, without the id of the extension. */
function heard(peer: RawPeer, kind: number): Buffer[] {
  return peer.messages
    .filter(({ id, payload }) => id === ID.EXTENDED && payload[0] === 9 && payload[1] === kind)
    .map(({ payload }) => payload.subarray(1));
}

async function memberOf({ members }: MadeMember): Promise<Member> {
  const [first] = members.open;
  return first ?? ((await once(members, 'member')) as [Member])[0];
}

suite('a hostile member', { concurrency: 4 }, () => {
  after(endSoon);

  /** Answers to a question for 1000 bytes (request 1), or to none, that end the connection. */
  const WRONG: Readonly<Record<string, Message>> = {
    'bytes that nobody asked for': { kind: 'data', id: 7, bytes: Buffer.alloc(10) },
    'more bytes than were asked for': { kind: 'data', id: 1, bytes: Buffer.alloc(1001) },
    'a choice that it was not asked for': { kind: 'picked', id: 1, index: 0 },
    'a narinfo in place of bytes': { kind: 'narinfo', id: 1, index: 0, text: Buffer.from('x') },
    'a refusal of nothing': { kind: 'refuse', id: 7, reason: 'absent' },
    'a map that nobody asked for': { kind: 'haveMap', batch: 77, bitmap: Buffer.of(1) },
    'a map of another size': { kind: 'haveMap', batch: 1, bitmap: Buffer.of(1, 1) },
  };
  for (const [what, message] of Object.entries(WRONG)) {
    test(`that sends ${what} is disconnected, and the request ends`, LIMIT, async () => {
      await using victim = await startMember();
      victim.members.want([{ file: FILE.file, sizeBytes: 1000 }]);
      const peer = await intrude(victim);
      const member = await memberOf(victim);
      const received: number[] = [];
      const asked = member.get(
        { file: FILE.file, from: 0, length: 1000 },
        (bytes) => received.push(bytes.length),
        SIGNAL,
      );
      say(peer, message);
      await peer.closed();
      assert.equal(await asked, 'closed');
      assert.deepEqual(received, []);
    });
  }

  /** Pieces of a file of another size: a member may have a narinfo with another FileSize, which nobody signs. */
  const OTHER_SIZE: Readonly<Record<string, Message>> = {
    'pieces of another number': { kind: 'pieces', prefix: prefixOf(FILE.file), count: 2, bitmap: Buffer.of(0xc0) },
    'a piece that the file has not': { kind: 'piece', prefix: prefixOf(FILE.file), index: 1 },
  };
  for (const [what, message] of Object.entries(OTHER_SIZE)) {
    test(`that announces ${what} stays connected, and delivers`, LIMIT, async () => {
      await using victim = await startMember();
      victim.members.want([{ file: FILE.file, sizeBytes: 1000 }]);
      const peer = await intrude(victim);
      const member = await memberOf(victim);
      const asked = member.get({ file: FILE.file, from: 0, length: 1000 }, () => undefined, SIGNAL);
      say(peer, message);
      say(peer, { kind: 'data', id: 1, bytes: Buffer.alloc(1000) });
      assert.equal(await asked, 'complete');
      assert.equal(peer.isOpen, true);
      assert.equal(member.has(FILE.file) ?? 'none', 'none');
    });
  }

  test('that picks no candidate, or sends bytes before it picks, is disconnected', LIMIT, async () => {
    for (const message of [
      { kind: 'picked', id: 1, index: 1 },
      { kind: 'data', id: 1, bytes: Buffer.alloc(1) },
    ] as const) {
      await using victim = await startMember();
      const peer = await intrude(victim);
      const member = await memberOf(victim);
      const on = { picked: () => assert.fail(), bytes: () => assert.fail() };
      const asked = member.any([{ file: FILE.file, from: 0, length: 1000 }], on, SIGNAL);
      say(peer, message);
      await peer.closed();
      assert.equal(await asked, 'closed');
    }
  });

  test('that picks twice is disconnected', LIMIT, async () => {
    await using victim = await startMember();
    const peer = await intrude(victim);
    const member = await memberOf(victim);
    const picked: number[] = [];
    const on = { picked: (index: number) => picked.push(index), bytes: () => undefined };
    const asked = member.any([{ file: FILE.file, from: 0, length: 1000 }], on, SIGNAL);
    for (let times = 0; times < 2; times++) say(peer, { kind: 'picked', id: 1, index: 0 });
    say(peer, { kind: 'data', id: 1, bytes: Buffer.alloc(1000) });
    assert.equal(await asked, 'closed');
    assert.deepEqual(picked, [0]);
  });

  test('that sends bytes in place of narinfos is disconnected', LIMIT, async () => {
    for (const length of [0, 1]) {
      await using victim = await startMember();
      const peer = await intrude(victim);
      const member = await memberOf(victim);
      const asked = member.narInfos(['a'.repeat(32) as StoreHash], SIGNAL);
      say(peer, { kind: 'data', id: 1, bytes: Buffer.alloc(length) });
      await asked; // it ends with the connection
      assert.equal(member.isOpen, false);
    }
  });

  test('that sends endless narinfos is disconnected', LIMIT, async () => {
    await using victim = await startMember();
    const peer = await intrude(victim);
    const member = await memberOf(victim);
    const hashes = Array.from({ length: 100 }, () => 'a'.repeat(32) as StoreHash);
    const asked = member.narInfos(hashes, SIGNAL);
    for (let index = 0; index < 100; index++) {
      if (!peer.isOpen) break;
      say(peer, { kind: 'narinfo', id: 1, index, text: Buffer.alloc(100_000, 'x') });
    }
    await peer.closed();
    assert.equal((await asked).length, 100);
  });

  test('that looks up endless narinfos waits for its turn, and gets files meanwhile', LIMIT, async () => {
    let nowMs = 0;
    const rates = { total: 10, perRange: 10, burst: 5, burstPerRange: 5 };
    const narInfos = new PacketBudget(rates, () => nowMs);
    await using victim = await startMember({ files: [FILE], narInfos });
    const peer = await intrude(victim);
    say(peer, { kind: 'narinfoGet', id: 1, hashes: Array.from({ length: 10 }, () => 'a'.repeat(32) as StoreHash) });
    say(peer, { kind: 'get', id: 2, file: FILE.file, from: 0, length: 1000 });
    await peer.until(() => heard(peer, 8).length === 1);
    await peer.until(() => heard(peer, 14).length >= 5);
    say(peer, { kind: 'get', id: 3, file: FILE.file, from: 0, length: 1000 });
    await peer.until(() => heard(peer, 8).length === 2);
    assert.equal(heard(peer, 14).length, 5);
    nowMs = 1000;
    await peer.until(() => heard(peer, 14).length === 10);
  });

  test('that sends endless messages is read no faster than it may be, and holds up nobody', LIMIT, async () => {
    let [hasTime, reads] = [false, 0];
    const clock = { nowMs: () => (hasTime ? performance.now() * 1000 : 0), usedMs: () => reads++ };
    const processor = new ProcessorBudget({ perSecondMs: 20, burstMs: 20 }, clock); // a read takes a millisecond
    await using victim = await startMember({ processor });
    const large = madeFile(4_000_000);
    await using seeder = await startMember({ files: [large], host: '127.0.0.2' });
    victim.find(seeder, '127.0.0.2');
    const member = await memberOf(victim);
    const peer = await intrude(victim);
    const prefixes = Array.from({ length: 4096 }, (_, index) => index.toString(16).padStart(16, '0') as FilePrefix);
    for (let batch = 0; batch < 300; batch++) say(peer, { kind: 'want', batch, prefixes });
    while (!processor.of('127.0.0.1').isOver) await nextTurn();
    const other = await RawPeer.connect(victim.port, GROUP);
    other.extended(0, 'd1:md13:nar_exchange2i9eee');
    let received = 0;
    const range = { file: large.file, from: 0, length: large.bytes.length };
    for (let time = 0; time < 8; time++)
      assert.equal(await member.get(range, (bytes) => (received += bytes.length), SIGNAL), 'complete');
    assert.equal(received, 8 * large.bytes.length);
    const answered = heard(peer, 2).length;
    assert.ok(answered <= 44, `${answered} answers to questions that fill 22 reads of 64 KiB`);
    assert.ok(peer.isOpen, 'its other connection would have taken its place if it had been read');
    hasTime = true;
    for (let batch = 0; batch < 100; batch++) say(other, { kind: 'want', batch, prefixes });
    await other.until(() => heard(other, 2).length === 100);
  });

  test('that opens two requests with one number is disconnected', LIMIT, async () => {
    await using victim = await startMember({ files: [FILE] });
    victim.offer.gate = new Promise(() => undefined);
    const peer = await intrude(victim);
    const get: Message = { kind: 'get', id: 1, file: FILE.file, from: 0, length: 10 };
    say(peer, get);
    say(peer, get);
    await peer.closed();
  });

  test('that asks for too much at once is answered as there is room', LIMIT, async () => {
    await using victim = await startMember({ files: [FILE] });
    const { promise, resolve } = Promise.withResolvers<void>();
    victim.offer.gate = promise;
    const peer = await intrude(victim);
    for (let id = 0; id < 3000; id++) say(peer, { kind: 'get', id, file: FILE.file, from: 0, length: 10 });
    resolve();
    await peer.until(() => heard(peer, 8).length === 3000);
    assert.deepEqual(heard(peer, 9), []);
  });

  test('that wants too many files is disconnected', LIMIT, async () => {
    await using victim = await startMember();
    const peer = await intrude(victim);
    const prefixes = (batch: number): FilePrefix[] =>
      Array.from({ length: 4096 }, (_, index) => (batch * 4096 + index).toString(16).padStart(16, '0') as FilePrefix);
    for (let batch = 0; batch <= MAX_WANTS / 4096 && peer.isOpen; batch++)
      say(peer, { kind: 'want', batch, prefixes: prefixes(batch) });
    await peer.closed();
  });

  test('that asks and does not read costs few reads, and continues once it reads', LIMIT, async () => {
    const large = madeFile(4_000_000);
    await using victim = await startMember({ files: [large] });
    const peer = await intrude(victim);
    peer.socket.pause();
    for (let id = 1; id <= 15; id++) say(peer, { kind: 'get', id, file: large.file, from: 0, length: 4_000_000 });
    let before = -1;
    while (victim.uploadedBytes !== before || before === 0) {
      before = victim.uploadedBytes;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.ok(before < 40_000_000, `${before} bytes for somebody who reads none`); // system buffers and a window
    peer.socket.resume();
    const received = (): number => heard(peer, 8).reduce((sum, { length }) => sum + length - 5, 0);
    await peer.until(() => received() === 60_000_000);
  });

  test('that does not read is disconnected if memory is short, and others are served', LIMIT, async () => {
    const large = madeFile(4_000_000);
    await using victim = await startMember({ files: [large], budget: new SendBudget(400_000) });
    const peer = await intrude(victim);
    peer.socket.pause();
    for (let id = 1; id <= 20; id++) say(peer, { kind: 'get', id, file: large.file, from: 0, length: 4_000_000 });
    const gone = once(victim.members, 'gone');
    await using client = await startMember();
    client.meet(victim);
    const member = await memberOf(client);
    let received = 0;
    const range = { file: large.file, from: 0, length: 4_000_000 };
    assert.equal(await member.get(range, (bytes) => (received += bytes.length), SIGNAL), 'complete');
    assert.equal(received, 4_000_000);
    await gone;
    assert.ok(member.isOpen);
  });

  test('that takes a request and stays silent is disconnected after a while', LIMIT, async () => {
    await using victim = await startMember();
    const peer = await intrude(victim);
    const member = await memberOf(victim);
    assert.equal(await member.get({ file: FILE.file, from: 0, length: 1000 }, () => undefined, SIGNAL), 'closed');
    await peer.closed();
  });

  test('is not a slow one that sends signs of life', LIMIT, async () => {
    await using seeder = await startMember({ files: [FILE] });
    await using client = await startMember();
    client.meet(seeder);
    const member = await memberOf(client);
    const { promise, resolve } = Promise.withResolvers<void>();
    seeder.offer.gate = promise;
    const askedAtMs = performance.now();
    const asked = member.get({ file: FILE.file, from: 0, length: 1000 }, () => undefined, SIGNAL);
    while (member.isOpen && performance.now() - askedAtMs < 7_000) await new Promise((wake) => setTimeout(wake, 100));
    resolve();
    assert.equal(await asked, 'complete');
  });

  test('that withdraws the extension is disconnected', LIMIT, async () => {
    await using victim = await startMember();
    const peer = await intrude(victim);
    const member = await memberOf(victim);
    peer.extended(0, 'd1:md13:nar_exchange2i0eee');
    await peer.closed();
    assert.equal(await member.get({ file: FILE.file, from: 0, length: 1 }, () => undefined, SIGNAL), 'closed');
  });

  test('that was banned cannot connect again', LIMIT, async () => {
    await using victim = await startMember();
    await intrude(victim);
    victim.members.ban(await memberOf(victim), 'it lied');
    const again = await RawPeer.open(victim.port, GROUP);
    await again.closed();
  });

  test('that was banned cannot connect to us either', LIMIT, async () => {
    await using victim = await startMember();
    await using liar = await startMember();
    victim.meet(liar);
    const member = await memberOf(victim);
    await memberOf(liar);
    const gone = once(liar.members, 'gone');
    victim.members.ban(member, 'it lied');
    await gone;
    liar.meet(victim);
    await once(liar.members, 'gone');
    assert.equal(victim.members.open.size, 0);
  });
});
