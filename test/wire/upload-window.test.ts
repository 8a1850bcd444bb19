import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { UploadWindow, type Question } from '../../src/wire/upload-window.ts';

const BLOCK = 16 * 1024;
const blockAt = (index: number): Question => ({ of: 'block', index: 0, offset: index * BLOCK, length: BLOCK });

/** A window that records the offsets of answered blocks. */
function start() {
  const room = { bytes: Infinity };
  const unsent = { bytes: 0 };
  const answered: number[] = [];
  const window = new UploadWindow({
    answer: async (questions) => void answered.push(...questions.map(({ offset }) => offset / BLOCK)),
    takeTurn: (answer) => answer(),
    follows: (block, before) => block.offset === before.offset + before.length,
    unsentBytes: () => unsent.bytes,
    take: (bytes) => {
      if (bytes > room.bytes) return false;
      room.bytes -= bytes;
      return true;
    },
    note: () => undefined,
  });
  return { window, room, unsent, answered };
}

test('a block is read only once there is room for it in the memory for all peers', async () => {
  const { window, room, answered } = start();
  room.bytes = 2 * BLOCK;
  for (let index = 0; index < 5; index++) assert.ok(window.ask(blockAt(index)));
  await nextTurn();
  assert.deepEqual(answered, [0, 1]);
  window.pump();
  await nextTurn();
  assert.deepEqual(answered, [0, 1]);
  room.bytes = 3 * BLOCK;
  window.pump();
  await nextTurn();
  assert.deepEqual(answered, [0, 1, 2, 3, 4]);
});

test('nothing is read for a peer that has not taken earlier answers', async () => {
  const { window, unsent, answered } = start();
  unsent.bytes = Infinity;
  assert.ok(window.ask(blockAt(0)));
  await nextTurn();
  assert.deepEqual(answered, []);
  unsent.bytes = 0;
  window.pump();
  await nextTurn();
  assert.deepEqual(answered, [0]);
});
