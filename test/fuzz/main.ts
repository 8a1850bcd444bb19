/** `npm run fuzz -- [--count N] [--seed N] [TARGET]…`: a million inputs for each reader of bytes from strangers. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import PQueue from 'p-queue';
import { fuzz } from './campaign.ts';
import { TARGETS } from './targets/index.ts';

const { values, positionals } = parseArgs({
  options: { count: { type: 'string', default: '1000000' }, seed: { type: 'string' } },
  allowPositionals: true,
});
const count = Number(values.count);
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const names = positionals.length > 0 ? positionals : Object.keys(TARGETS);
process.stderr.write(`${names.length} targets, ${count} inputs each, --seed ${seed}\n`);

const queue = new PQueue({ concurrency: availableParallelism() });
const findings = await queue.addAll(
  names.map((name) => async () => {
    const beganAtMs = performance.now();
    const finding = await fuzz(name, { count, seed });
    const seconds = ((performance.now() - beganAtMs) / 1000).toFixed(1);
    process.stdout.write(finding === undefined ? `${name}: ${count} inputs in ${seconds} s\n` : `${finding}\n`);
    return finding;
  }),
);
process.exitCode = findings.some((finding) => finding !== undefined) ? 1 : 0;
