import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, suite, test } from 'node:test';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { isSilent, noteSilence } from '../../src/discovery/peer-table.ts';
import type { Member } from '../../src/exchange/member.ts';
import { PieceSet } from '../../src/exchange/messages/piece-set.ts';
import type { Edition } from '../../src/exchange/messages/messages.ts';
import type { InfoHash, StoreHash } from '../../src/nix/brands.ts';
import { MAX_PREFIXES_PER_MESSAGE } from '../../src/wire/bounds.ts';
import { endSoon, GROUP, madeFile, startMember, type MadeFile, type MadeMember } from './exchange-fixture.ts';

const SIGNAL = new AbortController().signal;
const LIMIT = { timeout: 180_000 };

/** Waits for the first member that one is connected to. */
async function memberOf({ members }: MadeMember): Promise<Member> {
  const [first] = members.open;
  if (first !== undefined) return first;
  const [member] = (await once(members, 'member')) as [Member];
  return member;
}

/** Returns the bytes of a range, and the outcome of the request. */
async function take(
  member: Member,
  { file, bytes }: MadeFile,
  range: { from?: number; length?: number } = {},
): Promise<{ bytes: Buffer; outcome: string }> {
  const { from = 0, length = bytes.length } = range;
  const parts: Buffer[] = [];
  const outcome = await member.get({ file, from, length }, (part) => parts.push(Buffer.from(part)), SIGNAL);
  return { bytes: Buffer.concat(parts), outcome };
}

suite('the exchange', () => {
  after(endSoon);

  test('a member announces and gives a wanted file', LIMIT, async () => {
    const [small, large, other] = [madeFile(3000, 1), madeFile(3_000_000, 2), madeFile(100, 3)];
    await using seeder = await startMember({ files: [small, large] });
    await using client = await startMember();
    client.members.want([small, large, other].map(({ file, bytes }) => ({ file, sizeBytes: bytes.length })));
    client.meet(seeder);
    const member = await memberOf(client);
    await once(client.members, 'have');
    assert.equal(member.has(small.file), 'whole');
    assert.equal(member.has(large.file), 'whole');
    assert.equal(member.has(other.file), undefined);
    assert.ok(member.isKnown);
    const answers = await Promise.all([take(member, small), take(member, large), take(member, other)]);
    assert.deepEqual(
      answers.map(({ outcome }) => outcome),
      ['complete', 'complete', 'absent'],
    );
    assert.deepEqual(answers[0].bytes, small.bytes);
    assert.deepEqual(answers[1].bytes, large.bytes);
    assert.equal(member.inFlightBytes, 0);
    assert.equal(seeder.offer.openFiles, 0);
    assert.equal(seeder.uploadedBytes, 3_003_000);
  });

  test('in a group of the local network, nobody outside is met, on connections of either side', LIMIT, async () => {
    await using near = await startMember({ staysNear: true });
    await using neighbour = await startMember({ staysNear: true });
    await using far = await startMember();
    await using guarded = await startMember({ staysNear: true, isNear: false });
    neighbour.meet(near);
    await Promise.all([memberOf(neighbour), memberOf(near)]);
    guarded.meet(near); // is not dialed
    const record = far.meet(guarded); // is dialed, and refuses
    while (record.misses === 0 && far.members.open.size === 0) await sleep(5);
    assert.deepEqual([guarded.members.open.size, far.members.open.size, near.members.open.size], [0, 0, 1]);
  });

  test(
    'a member that goes on after a silence is no longer silent, but is for longer the next time',
    LIMIT,
    async () => {
      const file = madeFile(1000);
      await using seeder = await startMember({ files: [file] });
      await using client = await startMember();
      client.meet(seeder);
      const member = await memberOf(client);
      assert.ok(noteSilence(member.peer));
      await take(member, file);
      assert.equal(isSilent(member.peer), false);
      const nowMs = performance.now();
      assert.ok(noteSilence(member.peer, nowMs));
      assert.equal(isSilent(member.peer, nowMs + 19_000), true);
    },
  );

  test('both sides ask over one connection, whichever opened it', LIMIT, async () => {
    const [a, b] = [madeFile(100_000, 1), madeFile(200_000, 2)];
    await using one = await startMember({ files: [a] });
    await using two = await startMember({ files: [b] });
    one.meet(two);
    const [fromOne, fromTwo] = await Promise.all([memberOf(one), memberOf(two)]);
    const [gotB, gotA] = await Promise.all([take(fromOne, b), take(fromTwo, a)]);
    assert.deepEqual([gotB.bytes, gotA.bytes], [b.bytes, a.bytes]);
    assert.equal(fromTwo.peer.address, `127.0.0.1:${one.port}`);
  });

  test('gives exactly the requested range, and none beyond the end', LIMIT, async () => {
    const made = madeFile(1_000_000);
    await using seeder = await startMember({ files: [made] });
    await using client = await startMember();
    client.meet(seeder);
    const member = await memberOf(client);
    const { bytes, outcome } = await take(member, made, { from: 300_001, length: 400_000 });
    assert.equal(outcome, 'complete');
    assert.deepEqual(bytes, made.bytes.subarray(300_001, 700_001));
    assert.equal((await take(member, made, { from: 999_999, length: 2 })).outcome, 'range');
  });

  test('a file that arrives later is announced', LIMIT, async () => {
    const made = madeFile(5000);
    await using seeder = await startMember();
    await using client = await startMember();
    client.members.want([made]);
    client.meet(seeder);
    const member = await memberOf(client);
    const asked = await memberOf(seeder);
    while (!member.isKnown) await new Promise(setImmediate);
    assert.ok(asked.wants(made.file));
    const told = once(client.members, 'have');
    seeder.offer.add(made);
    assert.deepEqual(await told, [member, made.file]);
    assert.ok(!asked.wants(made.file));
    client.members.unwant([made.file]);
    assert.equal(member.has(made.file), undefined);
  });

  test('a piece that is announced again is no news', LIMIT, async () => {
    const made = madeFile(3 * 1024 * 1024);
    await using seed = await startMember();
    const set = new PieceSet(made.bytes.length);
    seed.offer.addPiece(made, set, 0);
    await using client = await startMember();
    client.members.want([{ file: made.file, sizeBytes: made.bytes.length }]);
    client.meet(seed);
    await once(client.members, 'piece');
    let news = 0;
    client.members.on('piece', () => news++);
    seed.offer.addPiece(made, set, 0);
    seed.offer.addPiece(made, set, 0);
    const told = once(client.members, 'piece');
    seed.offer.addPiece(made, set, 1);
    await told;
    assert.equal(news, 1);
  });

  test('pieces of an arriving file are announced, first together and then one by one', LIMIT, async () => {
    const made = madeFile(900_000);
    const set = new PieceSet(made.bytes.length);
    await using seeder = await startMember();
    seeder.offer.addPiece(made, set, 2);
    await using client = await startMember();
    client.members.want([{ file: made.file, sizeBytes: made.bytes.length }]);
    client.meet(seeder);
    const member = await memberOf(client);
    await once(client.members, 'piece');
    assert.deepEqual((member.has(made.file) as PieceSet).bitmap, Uint8Array.of(0x20));
    const told = once(client.members, 'piece');
    seeder.offer.addPiece(made, set, 0);
    await told;
    assert.deepEqual((member.has(made.file) as PieceSet).bitmap, Uint8Array.of(0xa0));
  });

  test('more files may be wanted than fit into one message', LIMIT, async () => {
    const files = Array.from({ length: MAX_PREFIXES_PER_MESSAGE + 10 }, (_, index) => madeFile(8, index));
    await using seeder = await startMember({ files });
    await using client = await startMember();
    client.members.want(files);
    client.meet(seeder);
    const member = await memberOf(client);
    while (!member.isKnown) await once(client.members, 'have');
    assert.ok(files.every(({ file }) => member.has(file) === 'whole'));
  });

  test('ANY gives the range that was given away least', LIMIT, async () => {
    const files = Array.from({ length: 4 }, (_, index) => madeFile(50_000, index));
    await using seeder = await startMember({ files });
    const candidates = files.map(({ file, bytes }) => ({ file, from: 0, length: bytes.length }));
    const chosen: number[] = [];
    await using first = await startMember();
    await using second = await startMember();
    for (const client of [first, second, first, second]) {
      if (client.members.open.size === 0) client.meet(seeder);
      const member = await memberOf(client);
      const parts: Buffer[] = [];
      const on = {
        picked: (index: number) => chosen.push(index),
        bytes: (part: Uint8Array) => parts.push(Buffer.from(part)),
      };
      assert.equal(await member.any(candidates, on, SIGNAL), 'complete');
      assert.deepEqual(Buffer.concat(parts), files[chosen.at(-1)!]?.bytes);
    }
    assert.deepEqual(new Set(chosen), new Set([0, 1, 2, 3]));
  });

  test('two ANYs at once get two ranges', LIMIT, async () => {
    const files = [madeFile(50_000, 1), madeFile(50_000, 2)];
    await using seeder = await startMember({ files });
    await using client = await startMember();
    client.meet(seeder);
    const member = await memberOf(client);
    const candidates = files.map(({ file }) => ({ file, from: 0, length: 50_000 }));
    const chosen: number[] = [];
    const on = { picked: (index: number) => chosen.push(index), bytes: () => undefined };
    await Promise.all([member.any(candidates, on, SIGNAL), member.any(candidates, on, SIGNAL)]);
    assert.deepEqual(new Set(chosen), new Set([0, 1]));
    const none = [{ file: madeFile(9, 9).file, from: 0, length: 9 }];
    assert.equal(await member.any(none, on, SIGNAL), 'absent');
  });

  test('a cancelled request sends nothing more, and later ones are answered', LIMIT, async () => {
    const [large, small] = [madeFile(20_000_000, 1), madeFile(300_000, 2)];
    await using seeder = await startMember({ files: [large, small] });
    await using client = await startMember();
    client.meet(seeder);
    const member = await memberOf(client);
    const stop = new AbortController();
    let received = 0;
    const cancelled = member.get(
      { file: large.file, from: 0, length: large.bytes.length },
      (bytes) => {
        received += bytes.length;
        stop.abort();
      },
      stop.signal,
    );
    assert.equal(await cancelled, 'cancelled');
    const before = received;
    const { bytes } = await take(member, small);
    assert.deepEqual(bytes, small.bytes);
    assert.equal(received, before);
    assert.equal(member.inFlightBytes, 0);
    assert.ok(seeder.uploadedBytes < 15_000_000);
  });

  test('refusals have their reasons', LIMIT, async () => {
    const made = madeFile(1000);
    await using seeder = await startMember({ files: [made] });
    await using client = await startMember();
    client.meet(seeder);
    const member = await memberOf(client);
    for (const reason of ['absent', 'withheld', 'busy', 'failed'] as const) {
      seeder.offer.refusal = reason;
      assert.equal((await take(member, made)).outcome, reason);
    }
  });

  test(
    'a peer outside the scope hears of nothing and gets nothing, over connections of either side',
    LIMIT,
    async () => {
      const made = madeFile(1000);
      await using seeder = await startMember({ files: [made], mayHave: () => false });
      await using client = await startMember();
      client.members.want([made]);
      client.meet(seeder);
      const member = await memberOf(client);
      while (!member.isKnown) await new Promise(setImmediate);
      assert.equal(member.has(made.file), undefined);
      assert.equal((await take(member, made)).outcome, 'withheld');
      const candidate = { file: made.file, from: 0, length: 1000 };
      const on = { picked: () => assert.fail(), bytes: () => assert.fail() };
      assert.equal(await member.any([candidate], on, SIGNAL), 'withheld');
      seeder.offer.narInfos.set('a'.repeat(32) as StoreHash, 'secret');
      assert.deepEqual(await member.narInfos(['a'.repeat(32) as StoreHash], SIGNAL), [undefined]);
      seeder.offer.add(madeFile(1000)); // arrives
      assert.equal((await take(member, made)).outcome, 'withheld');
      assert.equal(member.has(made.file), undefined);
    },
  );

  test('gives narinfos by store hash', LIMIT, async () => {
    const [a, b, c] = ['a', 'b', 'c'].map((letter) => letter.repeat(32) as StoreHash);
    await using seeder = await startMember();
    seeder.offer.narInfos.set(a!, 'StorePath: /nix/store/a\n').set(c!, 'ü\n');
    await using client = await startMember();
    client.meet(seeder);
    const member = await memberOf(client);
    assert.deepEqual(await member.narInfos([a!, b!, c!], SIGNAL), ['StorePath: /nix/store/a\n', undefined, 'ü\n']);
  });

  test('narinfos beyond the bounds are reported as missing, and the member stays connected', LIMIT, async () => {
    const hashes = Array.from({ length: 40 }, (_, index) => String(index).padStart(32, '0') as StoreHash);
    await using seeder = await startMember();
    const texts = ['x'.repeat(128 * 1024 + 1), ...Array.from({ length: 39 }, () => 'x'.repeat(128 * 1024))];
    for (const [index, hash] of hashes.entries()) seeder.offer.narInfos.set(hash, texts[index]!);
    await using client = await startMember();
    client.meet(seeder);
    const member = await memberOf(client);
    const got = await member.narInfos(hashes, SIGNAL);
    assert.deepEqual(
      got.map((text) => text?.length),
      [undefined, ...Array.from({ length: 32 }, () => 128 * 1024), ...Array.from({ length: 7 }, () => undefined)],
    );
    assert.ok(member.isOpen);
  });

  test('a newer edition is announced at once, and to members that connect later', LIMIT, async () => {
    await using publisher = await startMember();
    const first = { group: GROUP, seq: 1, infoHash: 'cd'.repeat(20) as InfoHash };
    publisher.members.tellEdition(first);
    await using follower = await startMember();
    const told = once(follower.members, 'edition');
    follower.meet(publisher);
    assert.deepEqual((await told)[1], { kind: 'edition', ...first });
    const again = once(follower.members, 'edition');
    publisher.members.tellEdition({ ...first, seq: 2 });
    assert.equal(((await again)[1] as Edition).seq, 2);
  });

  test('members on the internet hear only of their own hash map, and of none outside the scope', LIMIT, async () => {
    const other = 'ef'.repeat(20) as InfoHash;
    const infoHash = 'cd'.repeat(20) as InfoHash;
    for (const [options, heard] of [
      [{}, [other, GROUP]],
      [{ isNear: false }, [GROUP]],
      [{ mayHave: () => false }, []],
    ] as const) {
      await using publisher = await startMember(options);
      await using follower = await startMember({ files: [madeFile(100)] });
      follower.members.join(other);
      const groups: InfoHash[] = [];
      follower.members.on('edition', (_member, { group }) => groups.push(group));
      follower.meet(publisher);
      await memberOf(publisher);
      for (const group of [other, GROUP]) publisher.members.tellEdition({ group, seq: 1, infoHash });
      publisher.members.want([{ file: madeFile(100).file }]);
      await once(publisher.members, 'have'); // the answer comes after earlier messages
      assert.deepEqual(groups, heard);
    }
  });

  test('FETCHING goes only to neighbours that want the file', LIMIT, async () => {
    const [wanted, other] = [madeFile(1000), madeFile(1000, 2)];
    const [first, second] = [madeFile(100), madeFile(100, 2)];
    const fetches = [wanted, other].map(({ file }) => ({ file, heldBytes: 600 }));
    for (const [options, heard] of [
      [{}, 600],
      [{ isNear: false }, undefined],
      [{ mayHave: () => false }, undefined],
    ] as const) {
      await using fetcher = await startMember(options);
      await using client = await startMember({ files: [first, second] });
      client.members.want([{ file: wanted.file, sizeBytes: 1000 }]);
      client.meet(fetcher);
      const member = await memberOf(client);
      await memberOf(fetcher);
      fetcher.members.want([{ file: first.file }]);
      await once(fetcher.members, 'have'); // the other side's wants have come before the answer
      fetcher.members.tellFetching(fetches);
      fetcher.members.want([{ file: second.file }]);
      await once(fetcher.members, 'have'); // the answer comes after earlier messages
      assert.equal(member.fetching(wanted.file)?.heldBytes, heard);
      assert.equal(member.fetching(other.file), undefined);
    }
  });

  test('a peer that leaves the scope hears nothing more', LIMIT, async () => {
    const [whole, inParts] = [madeFile(1000), madeFile(600_000, 2)];
    const [first, second] = [madeFile(100), madeFile(100, 3)];
    let isIn = true;
    await using holder = await startMember({ mayHave: () => isIn });
    await using client = await startMember({ files: [first, second] });
    client.members.want([whole, inParts].map(({ file, bytes }) => ({ file, sizeBytes: bytes.length })));
    client.meet(holder);
    const member = await memberOf(client);
    await memberOf(holder);
    holder.members.want([{ file: first.file }]);
    await once(holder.members, 'have'); // the other side's wants have come before the answer
    isIn = false;
    holder.offer.add(whole);
    holder.offer.addPiece(inParts, new PieceSet(inParts.bytes.length), 0);
    holder.members.tellFetching([{ file: inParts.file, heldBytes: 1000 }]);
    await nextTurn(); // files are announced together
    holder.members.want([{ file: second.file }]);
    await once(holder.members, 'have'); // the answer comes after earlier messages
    assert.equal(member.has(whole.file), undefined);
    assert.equal(member.has(inParts.file), undefined);
    assert.equal(member.fetching(inParts.file), undefined);
  });

  test('NARs that no hash map lists are wanted only from members in the scope', LIMIT, async () => {
    const [listed, other] = [madeFile(1000), madeFile(1000, 2)];
    for (const mayHave of [true, false]) {
      await using holder = await startMember({ files: [listed, other] });
      await using client = await startMember({ mayHave: () => mayHave });
      client.members.want([{ file: other.file, isScoped: true }, { file: listed.file }]);
      client.meet(holder);
      const member = await memberOf(client);
      while (member.has(listed.file) === undefined) await sleep(5);
      assert.equal(member.has(other.file), mayHave ? 'whole' : undefined);
      assert.ok(member.isKnown);
      client.members.want([{ file: other.file }]); // a hash map that lists it was found
      while (member.has(other.file) === undefined) await sleep(5);
    }
  });

  test('the FETCHING of a file ends once it is given or no longer wanted', LIMIT, async () => {
    const made = madeFile(1000);
    await using fetcher = await startMember();
    await using client = await startMember();
    client.members.want([{ file: made.file, sizeBytes: 1000 }]);
    client.meet(fetcher);
    const member = await memberOf(client);
    const back = await memberOf(fetcher);
    const tell = async (): Promise<void> => {
      while (!back.wants(made.file)) await sleep(5);
      fetcher.members.tellFetching([{ file: made.file, heldBytes: 1000 }]);
      while (member.fetching(made.file) === undefined) await sleep(5);
    };
    await tell();
    client.members.unwant([made.file]);
    assert.equal(member.fetching(made.file), undefined);
    client.members.want([{ file: made.file, sizeBytes: 1000 }]);
    await tell();
    fetcher.offer.add(made);
    await once(client.members, 'have');
    assert.equal(member.fetching(made.file), undefined);
  });

  test('requests end when the member leaves', LIMIT, async () => {
    const made = madeFile(1000);
    await using client = await startMember();
    {
      await using seeder = await startMember({ files: [made] });
      seeder.offer.gate = new Promise(() => undefined);
      client.meet(seeder);
      const member = await memberOf(client);
      const asked = take(member, made);
      const gone = once(client.members, 'gone');
      seeder.members.close();
      assert.equal((await asked).outcome, 'closed');
      await gone;
      assert.ok(!member.isOpen);
      assert.equal((await take(member, made)).outcome, 'closed');
    }
  });

  test('two that connect to each other at once keep one connection', LIMIT, async () => {
    for (const ids of [
      ['a', 'b'],
      ['b', 'a'],
    ]) {
      const [first, second] = ids.map((id) => Buffer.alloc(20, id));
      const made = madeFile(1000);
      await using one = await startMember({ peerId: first!, files: [made] });
      await using two = await startMember({ peerId: second!, files: [made] });
      one.meet(two);
      two.meet(one);
      // Both have opened a connection before one is closed.
      await Promise.all([memberOf(one), memberOf(two)]);
      while (one.members.open.size !== 1 || two.members.open.size !== 1) await new Promise(setImmediate);
      await new Promise((resolve) => setTimeout(resolve, 300)); // neither is connected to again
      assert.deepEqual([one.members.open.size, two.members.open.size], [1, 1]);
      assert.equal((await take(await memberOf(one), made)).outcome, 'complete');
      assert.equal((await take(await memberOf(two), made)).outcome, 'complete');
    }
  });

  test('a connection to ourselves is closed', LIMIT, async () => {
    await using one = await startMember();
    one.meet(one);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(one.members.open.size, 0);
  });

  test('a lying member is dropped, and cannot connect again', LIMIT, async () => {
    const made = madeFile(1000);
    await using seeder = await startMember({ files: [made] });
    await using client = await startMember();
    const record = client.meet(seeder);
    const member = await memberOf(client);
    const gone = once(client.members, 'gone');
    client.members.ban(member, 'it lied');
    await gone;
    assert.equal(record.banned, 'it lied');
  });
});
