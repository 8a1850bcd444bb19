import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type Wire from 'bittorrent-protocol';
import Piece from 'torrent-piece';
import type Torrent from 'webtorrent/lib/torrent.js';
import { liarsOf, noteSender, pieceFor, replaceBadPiece } from '../../src/swarm/suspects.ts';

const BLOCK = 16 * 1024;
const LENGTH = 3 * BLOCK + 5;

function wire(): Wire {
  return { destroyed: false, peerChoking: false } as Wire;
}

/** A piece of four blocks, the last one short, of which `senders` sent one each; `next` is what is fetched instead. */
function afterBadPiece(...senders: readonly Wire[]): { torrent: Torrent; next: Piece; bad: Buffer } {
  const piece = new Piece(LENGTH);
  const bad = randomBytes(LENGTH);
  for (const [first, sender] of senders.entries()) noteSender(piece, { first, count: 1 }, sender);
  const next = replaceBadPiece(piece, bad);
  return { torrent: { pieces: [next] } as unknown as Torrent, next, bad };
}

test('a piece that several sent parts of is fetched again from one alone', () => {
  const [one, other] = [wire(), wire()];
  const { torrent, next } = afterBadPiece(one, other, one, one);
  assert.equal(pieceFor(torrent, other, 0), next);
  assert.equal(pieceFor(torrent, one, 0), undefined);
  assert.equal(pieceFor(torrent, other, 0), next);
});

for (const leave of ['destroyed', 'peerChoking'] as const) {
  test(`where that one is ${leave}, the next begins anew`, () => {
    const [one, other] = [wire(), wire()];
    const { torrent, next } = afterBadPiece(one, other, one, one);
    pieceFor(torrent, one, 0);
    Object.assign(one, { [leave]: true });
    const anew = pieceFor(torrent, other, 0);
    assert.ok(anew !== undefined && anew !== next && torrent.pieces[0] === anew);
    assert.equal(pieceFor(torrent, wire(), 0), undefined);
  });
}

test('a piece that one alone sent is fetched again from anybody', () => {
  const [one, other] = [wire(), wire()];
  const { torrent, next } = afterBadPiece(one, one, one, one);
  assert.deepEqual([pieceFor(torrent, one, 0), pieceFor(torrent, other, 0)], [next, next]);
  assert.deepEqual(liarsOf(next, randomBytes(LENGTH)), new Set());
});

test('the good bytes tell who lied', () => {
  const [honest, liar, lazy] = [wire(), wire(), wire()];
  const { next, bad } = afterBadPiece(honest, liar, honest, lazy);
  const good = Buffer.from(bad);
  good.writeUInt8(good.readUInt8(BLOCK) ^ 1, BLOCK);
  assert.deepEqual([...liarsOf(next, good)], [liar]);
  good.writeUInt8(good.readUInt8(LENGTH - 1) ^ 1, LENGTH - 1);
  assert.deepEqual([...liarsOf(next, good)], [liar, lazy]);
});

test('a piece that is there is not asked for', () => {
  assert.equal(pieceFor({ pieces: [null] } as unknown as Torrent, wire(), 0), undefined);
});
