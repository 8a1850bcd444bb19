import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { HeldPieces } from '../../../src/store/partial-bytes/held-pieces.ts';

test('the last piece has the remaining length', () => {
  const held = new HeldPieces(250, 100);
  assert.deepEqual([held.count, held.startOf(2), held.lengthOf(1), held.lengthOf(2)], [3, 200, 100, 50]);
  held.addPiece(2, 'a peer');
  assert.deepEqual([held.has(2), held.bytes, held.missing()], [true, 50, [{ from: 0, to: 200 }]]);
});

test('the prefix ends at the first missing byte', () => {
  const held = new HeldPieces(250, 100);
  assert.equal(held.prefixBytes, 0);
  held.addPiece(1, 'a peer');
  assert.equal(held.prefixBytes, 0);
  held.addBytes(0, 40, 'a server');
  assert.equal(held.prefixBytes, 40);
  held.addPiece(0, 'a peer');
  assert.equal(held.prefixBytes, 200);
  held.addPiece(2, 'a peer');
  assert.equal(held.prefixBytes, 250);
});

test('names each origin of a piece once, and only the new one if the piece begins again', () => {
  const held = new HeldPieces(200, 100);
  held.addBytes(0, 40, 'one');
  held.addBytes(40, 20, 'two');
  held.addBytes(60, 140, 'one');
  assert.deepEqual([held.originsOf([0]), held.originsOf([1])], [['one', 'two'], ['one']]);
  held.forget(0);
  assert.deepEqual(held.missing(), [{ from: 0, to: 100 }]);
  held.addBytes(0, 100, 'three');
  assert.deepEqual(held.originsOf([0, 1]), ['three', 'one']);
});

test('keeps the bytes of trusted senders, but of each piece only those before a dropped byte', () => {
  const held = new HeldPieces(550, 100);
  held.addBytes(0, 50, 'trusted');
  held.addBytes(50, 70, 'also trusted');
  held.addBytes(120, 110, 'other');
  held.addBytes(230, 170, 'trusted');
  held.addBytes(400, 100, 'other');
  held.addBytes(500, 50, 'trusted');
  held.forgetExcept((origin) => origin !== 'other');
  const dropped = [
    { from: 120, to: 300 },
    { from: 400, to: 500 },
  ];
  assert.deepEqual([held.missing(), held.bytes, held.prefixBytes, held.endBytes], [dropped, 270, 120, 550]);
  assert.deepEqual(held.originsOf([0, 1, 2, 3, 4, 5]), ['trusted', 'also trusted']);
  held.forgetExcept(() => false);
  assert.deepEqual([held.missing(), held.bytes, held.prefixBytes, held.endBytes], [[{ from: 0, to: 550 }], 0, 0, 0]);
});

test('counts neither unchecked nor dropped bytes as checked', () => {
  const held = new HeldPieces(300, 100);
  held.addPiece(0, 'a peer');
  held.addPiece(1, 'a peer');
  held.addBytes(200, 100, 'a server');
  assert.deepEqual(
    [0, 1, 2].map((index) => held.isChecked(index)),
    [true, true, false],
  );
  held.forget(0);
  held.addBytes(100, 100, 'a server');
  assert.ok(![0, 1].some((index) => held.isChecked(index)));
});

test('held and missing ranges always make up the whole', () => {
  const sizes = fc.record({
    sizeBytes: fc.integer({ min: 1, max: 5000 }),
    pieceBytes: fc.integer({ min: 1, max: 900 }),
  });
  fc.assert(
    fc.property(sizes, fc.array(fc.nat({ max: 5000 })), ({ sizeBytes, pieceBytes }, lengths) => {
      const held = new HeldPieces(sizeBytes, pieceBytes);
      for (const [step, length] of lengths.entries()) {
        const range = held.missing().at(step % 2 === 0 ? 0 : -1);
        if (range === undefined) break;
        held.addBytes(range.from, Math.min(length, range.to - range.from), 'a server');
        const missing = held.missing().reduce((sum, { from, to }) => sum + to - from, 0);
        assert.equal(held.bytes + missing, sizeBytes);
      }
      held.clear();
      assert.deepEqual([held.bytes, held.missing()], [0, [{ from: 0, to: sizeBytes }]]);
    }),
  );
});
