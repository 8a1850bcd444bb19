import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PieceNews, type NewPiece } from '../../src/exchange/piece-news.ts';
import type { FilePrefix } from '../../src/exchange/messages/messages.ts';

const [first, second] = ['a'.repeat(16), 'b'.repeat(16)] as [FilePrefix, FilePrefix];

test('pieces of a moment are told together, in their order, and later ones later', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const told: (readonly NewPiece[])[] = [];
  using news = new PieceNews((pieces) => told.push(pieces));
  news.add(first, 3);
  t.mock.timers.tick(10);
  news.add(second, 1);
  assert.deepEqual(told, []);
  t.mock.timers.tick(100);
  news.add(first, 4);
  t.mock.timers.tick(100);
  const all = [
    [
      { prefix: first, index: 3 },
      { prefix: second, index: 1 },
    ],
    [{ prefix: first, index: 4 }],
  ];
  assert.deepEqual(told, all);
});

test('nothing is told after the end', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const news = new PieceNews(() => assert.fail('too late'));
  news.add(first, 1);
  news[Symbol.dispose]();
  t.mock.timers.tick(100);
});
