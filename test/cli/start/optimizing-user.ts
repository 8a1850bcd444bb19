/** Tells when V8 optimizes a function that is called all the time, as JSON lines. Needs `--allow-natives-syntax`. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { optimizeLate } from '../../../src/cli/start/late-optimizing.ts';

/** The bits of V8's `OptimizationStatus` for a function that was optimized, by Maglev or by Turbofan. */
const OPTIMIZED = (1 << 4) | (1 << 5);
// oxlint-disable-next-line typescript/no-implied-eval -- syntax of V8 alone
const statusOf = new Function('f', 'return %GetOptimizationStatus(f)') as (f: unknown) => number;

const hot = (count: number): number => {
  let sum = 0;
  for (let index = 0; index < count; index++) sum += index % 7;
  return sum;
};

/** Calls the function until it is optimized, at most for so many turns of the event loop. */
async function isOptimized(turns: number): Promise<boolean> {
  for (let turn = 0; turn < turns; turn++) {
    for (let call = 0; call < 100; call++) hot(100);
    await nextTurn(); // the compilers are threads of their own
    if ((statusOf(hot) & OPTIMIZED) !== 0) return true;
  }
  return false;
}

/** Processor time, as the program sees it. */
let usedMs = 0;
process.threadCpuUsage = () => ({ user: usedMs * 1000, system: 0 });
if (process.argv[2] === 'late') optimizeLate();
const before = await isOptimized(200);
usedMs = 10_000;
const after = await isOptimized(Infinity);
console.log(JSON.stringify({ before, after }));
