/** Limits concurrent work to the bytes that fit into memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteTurns } from '../../src/bytes/byte-turns.ts';

test('runs work in order, within the limit, and work above the limit alone', async () => {
  const turns = new ByteTurns(100);
  const begun: number[] = [];
  const ends = new Map<number, () => void>();
  const all = [60, 40, 30, 500, 10].map((bytes) =>
    turns.run(bytes, async () => {
      begun.push(bytes);
      await new Promise<void>((end) => ends.set(bytes, end));
      if (bytes === 40) throw new Error('failed');
    }),
  );
  all[1]?.catch(() => undefined);
  const end = async (bytes: number): Promise<void> => {
    ends.get(bytes)?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  assert.deepEqual(begun, [60, 40]);
  await end(40); // a failure makes room, too
  assert.deepEqual(begun, [60, 40, 30]);
  await end(60);
  assert.deepEqual(begun, [60, 40, 30], 'work above the limit waits until it is alone, and the rest waits behind it');
  await end(30);
  assert.deepEqual(begun, [60, 40, 30, 500]);
  await end(500);
  await end(10);
  await assert.rejects(Promise.all(all), /failed/);
  assert.deepEqual(begun, [60, 40, 30, 500, 10]);
});
