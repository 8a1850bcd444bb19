/**
 * Gives one target its inputs: `node test/fuzz/run-target.ts NAME COUNT SEED [FIRST]`. Prints progress as `N` lines. A
 * finding ends it with status 1, and the input in hex on stderr. The process that starts it watches for silence: a hang.
 */
import { makeInput } from './mutate.ts';
import { Random } from './random.ts';
import { TARGETS } from './targets/index.ts';

/** Inputs between two turns of the event loop and two lines of progress. */
const BATCH = 1000;

const [name = '', countText, seedText, firstText = '0'] = process.argv.slice(2);
const make = TARGETS[name];
if (make === undefined) throw new Error(`${name} is not one of ${Object.keys(TARGETS).join(', ')}`);
const target = await make();
const seed = Number(seedText);
const last = Number(firstText) + Math.ceil(Number(countText) * (target.share ?? 1));

for (let index = Number(firstText); index < last; index++) {
  // Each input follows from the seed and its index alone, so that one can be tried again by itself.
  const input = makeInput(new Random(Math.imul(seed, 0x01_00_01_93) ^ index), target.corpus, target.words);
  try {
    await target.read(Buffer.from(input));
  } catch (error) {
    process.stderr.write(`${name}: input ${index} of seed ${seed} is a finding: ${describe(error)}\n`);
    process.stderr.write(
      `again: node test/fuzz/run-target.ts ${name} 1 ${seed} ${index}\ninput: ${input.toString('hex')}\n`,
    );
    process.exit(1);
  }
  if (index % BATCH === BATCH - 1) {
    process.stdout.write(`${index + 1}\n`);
    await new Promise(setImmediate);
  }
}
await target.finish?.();
process.exit(0);

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
