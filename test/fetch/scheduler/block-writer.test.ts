import assert from 'node:assert/strict';
import { test } from 'node:test';
import { giveBack, isLent, takeBuffer } from '../../../src/bytes/lent-buffers.ts';
import { BlockWriter } from '../../../src/fetch/scheduler/block-writer.ts';
import type { SharedNar } from '../../../src/fetch/scheduler/shared-nar.ts';

const SIZE = 4_000_000;
const BYTES = Buffer.from(Array.from({ length: SIZE }, (_, index) => (index * 13 + (index >> 10)) & 0xff));

/** A NAR that takes its bytes when it is told to: until then they must not change. */
function slowNar() {
  const nar = Buffer.alloc(SIZE);
  const waiting: (() => void)[] = [];
  const starts: number[] = [];
  let fault: Error | undefined;
  return {
    nar,
    starts,
    waiting,
    failWith: (error: Error) => (fault = error),
    shared: {
      write: async (offset: number, chunks: readonly Uint8Array[]) => {
        starts.push(offset);
        await new Promise<void>((resolve) => waiting.push(resolve));
        if (fault !== undefined) throw fault;
        let at = offset;
        for (const chunk of chunks) {
          nar.set(chunk, at);
          at += chunk.length;
        }
      },
    } as unknown as SharedNar,
    /** Lets running writes go on until nothing waits. */
    goOn: async (): Promise<void> => {
      do {
        for (const go of waiting.splice(0)) go();
        await new Promise((resolve) => setImmediate(resolve));
      } while (waiting.length > 0);
    },
  };
}

/** Sends bytes as a socket would: in lent buffers that are overwritten as soon as nobody uses them. */
async function send(writer: BlockWriter, chunkBytes: (index: number) => number, goOn: () => Promise<void>) {
  const used = new Set<Buffer>();
  let block = takeBuffer(256 * 1024);
  let room = 0;
  for (let at = 0, index = 0; at < SIZE; index++) {
    const length = Math.min(chunkBytes(index), SIZE - at, block.length - room);
    BYTES.copy(block, room, at, at + length);
    const waits = writer.write(block.subarray(room, room + length));
    if (waits !== undefined) await Promise.all([waits, goOn()]);
    at += length;
    room += length;
    if (room < block.length) continue;
    giveBack(block);
    used.add(block);
    for (const one of used) if (!isLent(one)) one.fill(0xee);
    block = takeBuffer(256 * 1024);
    room = 0;
  }
  giveBack(block);
  return used;
}

for (const [name, chunkBytes] of [
  ['large chunks', () => 64 * 1024],
  ['small chunks', () => 1_460],
  ['chunks of all sizes', (index: number) => 1 + ((index * 7_919) % 100_000)],
] as const)
  test(`${name} are written in order, and unchanged`, async () => {
    const { nar, starts, shared, goOn } = slowNar();
    const writer = new BlockWriter(shared, 0, 'upstream');
    const used = await send(writer, chunkBytes, goOn);
    const flushed = writer.flush();
    await goOn();
    await flushed;
    assert.ok(nar.equals(BYTES));
    assert.deepEqual(
      starts,
      starts.toSorted((a, b) => a - b),
    );
    assert.ok(starts.length < SIZE / (256 * 1024), 'writes have a useful size');
    for (const one of used) assert.ok(!isLent(one), 'no buffer is kept');
  });

test('bytes of less than a block are forgotten if they are dropped', async () => {
  const { starts, shared } = slowNar();
  const writer = new BlockWriter(shared, 0, 'upstream');
  const chunk = takeBuffer(64 * 1024);
  assert.equal(writer.write(chunk), undefined);
  await writer.drop();
  giveBack(chunk);
  assert.deepEqual(starts, []);
  assert.ok(!isLent(chunk));
});

test('after a write that failed, nothing more is written, and the error is thrown', async () => {
  const { starts, shared, failWith, goOn } = slowNar();
  failWith(new Error('the disk is full'));
  const writer = new BlockWriter(shared, 0, 'upstream');
  assert.equal(writer.write(BYTES.subarray(0, 512 * 1024)), undefined, 'one write runs beside the next block');
  await goOn();
  await assert.rejects(Promise.resolve(writer.write(BYTES.subarray(0, 512 * 1024))), /the disk is full/);
  await assert.rejects(writer.flush(), /the disk is full/);
  assert.deepEqual(starts, [0]);
});
