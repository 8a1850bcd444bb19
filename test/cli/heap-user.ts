/** Keeps much, and leaves garbage behind that has lived for a while: prints the most that its heap took. `small`: as a daemon. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { keepHeapSmall } from '../../src/cli/small-heap.ts';

setFlagsFromString('--semi-space-growth-factor=1'); // as every command
if (process.argv[2] === 'small') keepHeapSmall();
const made = (count: number): object[] =>
  Array.from({ length: count }, (_, index) => ({ index, text: `text ${index}` }));
const kept = made(400_000);
const recent: object[][] = [];
let peakBytes = 0;
for (let round = 0; round < 400; round++) {
  if (recent.push(made(10_000)) > 5) recent.shift();
  await sleep(1);
  peakBytes = Math.max(peakBytes, process.memoryUsage().heapTotal);
}
console.log(JSON.stringify({ peakBytes, kept: kept.length }));
