/** Finds out who sent which block and who lied, from the blocks alone. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { BLOCK_BYTES, PieceLedger } from '../../src/swarm/piece-ledger.ts';

interface Peer {
  readonly name: string;
}
const [HONEST, LIAR, LAZY]: readonly [Peer, Peer, Peer] = [{ name: 'honest' }, { name: 'liar' }, { name: 'lazy' }];
/** A piece of four blocks, the last one short, and a second piece of one block. */
const PIECE_BYTES = 3 * BLOCK_BYTES + 5;
const GOOD = randomBytes(PIECE_BYTES + 7);

function ledger(): PieceLedger<Peer> {
  const sha1 = (index: number): string =>
    createHash('sha1')
      .update(GOOD.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES))
      .digest('hex');
  return new PieceLedger<Peer>({ lengthBytes: GOOD.length, pieceLength: PIECE_BYTES, sha1 });
}

function blockOf(at: number, from: Buffer = GOOD): Buffer {
  return from.subarray(at * BLOCK_BYTES, Math.min((at + 1) * BLOCK_BYTES, PIECE_BYTES));
}

/** Requests and receives each block of the first piece from its sender. @returns the peers suspected meanwhile */
function fetch(one: PieceLedger<Peer>, senders: readonly Peer[], bytes: Buffer = GOOD): Set<Peer> {
  const suspected = new Set<Peer>();
  for (const [at, sender] of senders.entries()) {
    const { known, suspects } = one.request(0, at * BLOCK_BYTES);
    for (const suspect of suspects) suspected.add(suspect);
    assert.equal(typeof known, 'number');
    one.received({ index: 0, offset: at * BLOCK_BYTES, attempt: Number(known) }, blockOf(at, bytes), sender);
  }
  return suspected;
}

/** Returns the good bytes with the first byte of these blocks changed. */
function turned(...blocks: readonly number[]): Buffer {
  const bytes = Buffer.from(GOOD);
  for (const at of blocks) bytes.writeUInt8(bytes.readUInt8(at * BLOCK_BYTES) ^ 1, at * BLOCK_BYTES);
  return bytes;
}

test('a right piece blames nobody', () => {
  const one = ledger();
  assert.deepEqual(fetch(one, [HONEST, LAZY, HONEST, HONEST]), new Set());
  const { bytesBySender, liars } = one.onGood(0, GOOD.subarray(0, PIECE_BYTES));
  assert.deepEqual(
    [...bytesBySender],
    [
      [HONEST, 2 * BLOCK_BYTES + 5],
      [LAZY, BLOCK_BYTES],
    ],
  );
  assert.deepEqual(liars, new Set());
});

test('the only sender of a bad piece is known once its blocks are requested again', () => {
  const one = ledger();
  fetch(one, [LIAR, LIAR, LIAR, LIAR], turned(2));
  assert.deepEqual(one.request(0, 0), { known: 1, suspects: new Set([LIAR]) });
});

test('among several senders of a bad piece, the good bytes show who lied', () => {
  const one = ledger();
  fetch(one, [HONEST, LIAR, HONEST, LAZY], turned(1));
  assert.deepEqual(fetch(one, [HONEST, HONEST, HONEST, HONEST]), new Set([HONEST, LIAR, LAZY]));
  assert.deepEqual(one.onGood(0, GOOD.subarray(0, PIECE_BYTES)).liars, new Set([LIAR]));
});

test('a block of an earlier attempt counts for nobody', () => {
  const one = ledger();
  fetch(one, [LIAR, LIAR, LIAR, LIAR], turned(0));
  assert.equal(one.request(0, 0).known, 1);
  one.received({ index: 0, offset: 0, attempt: 0 }, blockOf(0, turned(0)), LIAR);
  assert.equal(one.request(0, 0).known, 1);
});

test('a block of a good piece that the swarm has lost is returned again, and nobody is blamed', () => {
  const one = ledger();
  fetch(one, [HONEST, HONEST, HONEST, HONEST]);
  const { known, suspects } = one.request(0, BLOCK_BYTES);
  assert.deepEqual([known, suspects], [blockOf(1), new Set()]);
});

test('bytes of an earlier download are kept and not requested', () => {
  const one = ledger();
  one.putBack({ index: 0, bytes: GOOD.subarray(0, 2 * BLOCK_BYTES + 100) });
  assert.deepEqual(one.request(0, BLOCK_BYTES).known, blockOf(1));
  assert.equal(one.request(0, 2 * BLOCK_BYTES).known, 0, 'half a block is no block');
  one.received({ index: 0, offset: 2 * BLOCK_BYTES, attempt: 0 }, blockOf(2), HONEST);
  assert.deepEqual(one.beginnings(), [{ index: 0, bytes: GOOD.subarray(0, 3 * BLOCK_BYTES) }]);
});

test('wrong bytes of an earlier download are dropped, and no peer is blamed', () => {
  const one = ledger();
  one.putBack({ index: 0, bytes: turned(0).subarray(0, PIECE_BYTES) });
  for (let at = 0; at < 4; at++) assert.ok(one.request(0, at * BLOCK_BYTES).known instanceof Uint8Array);
  assert.deepEqual(one.request(0, 0), { known: 1, suspects: new Set() });
  assert.deepEqual(one.beginnings(), []);
});

test('a block of a complete piece is ignored', () => {
  const one = ledger();
  fetch(one, [HONEST, HONEST, HONEST, HONEST]);
  one.onGood(0, GOOD.subarray(0, PIECE_BYTES));
  one.received({ index: 0, offset: 0, attempt: 0 }, blockOf(0), LAZY);
  assert.deepEqual(one.beginnings(), []);
});
