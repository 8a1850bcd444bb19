/** Runs every contestant once a round, so that changes of the machine affect all of them. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { assertFetched } from './check.ts';
import type { Contestant } from './contestants.ts';
import { measure } from './process.ts';
import type { Measurement, ProcessOptions } from './process.ts';
import type { Scene } from './scene.ts';

export interface Run extends Measurement {
  /** Processor time of narswarm's seeder meanwhile, in seconds. */
  readonly seederCpuS: number;
}

export interface Outcome {
  readonly contestant: Contestant;
  /** The runs that fetched everything. */
  readonly runs: readonly Run[];
  /** Why there are fewer than rounds: `not installed`, `> 60 s`, or what went wrong. */
  readonly failure: string | undefined;
}

export interface RoundOptions extends ProcessOptions {
  readonly rounds: number;
  /** Seconds after which a client is killed and not asked again. */
  readonly limitS: number;
  /** Called before each run. */
  readonly onRun: (round: number, contestant: Contestant) => void;
}

/** @throws the signal's reason; a contestant's failure becomes its outcome */
export async function runRounds(
  scene: Scene,
  contestants: readonly Contestant[],
  options: RoundOptions,
): Promise<Outcome[]> {
  const outcomes = contestants.map((contestant) => ({
    contestant,
    runs: [] as Run[],
    failure: isInstalled(contestant, scene) ? undefined : 'not installed',
  }));
  for (let round = 0; round < options.rounds; round++) {
    const shift = round % outcomes.length; // no contestant always follows the same other one
    for (const outcome of [...outcomes.slice(shift), ...outcomes.slice(0, shift)]) {
      if (outcome.failure !== undefined) continue;
      options.onRun(round, outcome.contestant);
      // oxlint-disable-next-line no-await-in-loop -- one at a time is the point
      const result = await runOnce(scene, outcome.contestant, options);
      if (typeof result === 'string') Object.assign(outcome, { failure: result });
      else outcome.runs.push(result);
    }
  }
  return outcomes;
}

function isInstalled({ tool }: Contestant, { tools }: Scene): boolean {
  return tool === undefined || tools[tool] !== undefined;
}

/** One measured run; a text says why there is no measurement. */
async function runOnce(scene: Scene, contestant: Contestant, options: RoundOptions): Promise<Run | string> {
  const out = join(scene.dir, contestant.isRerun ? contestant.name : 'out');
  const isFirst = (await mkdir(out, { recursive: true })) !== undefined;
  const command = await contestant.command(scene, out);
  const run = () => measure(scene.tools.python.program, command, options.limitS, options);
  try {
    if (contestant.isRerun && isFirst) await run();
    using seeder = scene.seeder.measure();
    const { log, ...measurement } = await run();
    const seederCpuS = seeder.seconds;
    if (measurement.isTimeout) return `> ${options.limitS} s`;
    if (measurement.status !== 0) return `exit status ${measurement.status}: ${log}`;
    if (contestant.fetchesNars) await assertFetched(join(out, contestant.narDir), scene.cache.nars);
    return { ...measurement, seederCpuS };
  } catch (error) {
    options.signal.throwIfAborted();
    return error instanceof Error ? error.message : String(error);
  } finally {
    if (!contestant.isRerun) await rm(out, { recursive: true, force: true });
  }
}
