import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WaitingQuestions } from '../../src/wire/waiting-questions.ts';

const block = (index: number) => ({ of: 'block', index, offset: 16_384, length: 100 }) as const;
const METADATA = { of: 'metadata', index: 7, offset: 0, length: 200 } as const;

test('questions wait in order, and are withdrawn by their numbers', () => {
  const waiting = new WaitingQuestions();
  for (const question of [block(1), METADATA, block(2), block(3)]) waiting.push(question);
  assert.equal(waiting.size, 4);
  assert.deepEqual(waiting.first(), block(1));
  assert.equal(waiting.cancel(2, 16_384, 100), true);
  assert.equal(waiting.cancel(2, 16_384, 100), false);
  assert.equal(waiting.cancel(7, 0, 200), false); // requests for metadata cannot be withdrawn
  waiting.dropFirst();
  assert.deepEqual(waiting.first(), METADATA);
  assert.equal(waiting.size, 2);
});

test('a choke drops blocks and keeps metadata', () => {
  const waiting = new WaitingQuestions();
  for (const question of [block(1), METADATA, block(2)]) waiting.push(question);
  assert.deepEqual(waiting.forgetBlocks(), [block(1), block(2)]);
  assert.deepEqual(waiting.first(), METADATA);
  waiting.dropFirst();
  assert.equal(waiting.first(), undefined);
});
