/** Keeps much memory and leaves long-lived garbage. Prints the usual size of its heap. `small`: like a daemon. */
import { setTimeout as sleep } from 'node:timers/promises';
import { keepHeapSmall } from '../../../src/cli/start/small-heap.ts';

if (process.argv[2] === 'small') keepHeapSmall();
const made = (count: number): object[] =>
  Array.from({ length: count }, (_, index) => ({ index, text: `text ${index}` }));
const kept = made(400_000);
const recent: object[][] = [];
const heapBytes: number[] = [];
for (let round = 0; round < 400; round++) {
  if (recent.push(made(10_000)) > 5) recent.shift();
  await sleep(1);
  heapBytes.push(process.memoryUsage().heapTotal);
}
const medianBytes = heapBytes.toSorted((a, b) => a - b)[heapBytes.length / 2];
console.log(JSON.stringify({ medianBytes, kept: kept.length }));
