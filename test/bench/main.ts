/** Compares narswarm with other programs that download the same closure: `npm run bench`, see `--help`. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CLOSURES } from './closures.ts';
import type { ClosureName, ClosureShape } from './closures.ts';
import { makeRows } from './figures.ts';
import type { Row } from './figures.ts';
import { HELP, parseOptions } from './options.ts';
import type { BenchOptions } from './options.ts';
import { formatRows, formatTargets } from './report.ts';
import { runRounds } from './rounds.ts';
import { setScene } from './scene.ts';
import { targetsOf } from './targets.ts';
import type { Target } from './targets.ts';
import { findTools, machineFacts } from './tools.ts';
import type { Tools } from './tools.ts';
import { makeWorkspace } from './workspace.ts';

interface ClosureReport {
  readonly closure: ClosureName;
  readonly narCount: number;
  readonly totalBytes: number;
  readonly dir: string;
  readonly isInMemory: boolean;
  readonly rows: readonly Row[];
  readonly targets: readonly Target[];
}

/** Seconds after which a client is given up on. */
const LIMIT_S = 60;
/** The cache, the output, and a store that is kept for the rerun, with room to spare. */
const COPIES = 4;

/** Builds the program as it is installed: users run this one. */
async function build(signal: AbortSignal): Promise<void> {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const built = promisify(execFile)('npm', ['run', '-s', 'build'], { cwd: root, signal });
  await built.catch((cause: Error & { stdout?: string }) => {
    throw new Error(`the program does not build:\n${cause.stdout}`, { cause });
  });
}

async function compare(
  shape: ClosureShape,
  tools: Tools,
  options: BenchOptions,
  signal: AbortSignal,
): Promise<ClosureReport> {
  const wantedBytes = shape.sizesBytes.reduce((sum, size) => sum + size, 0);
  await using workspace = await makeWorkspace(wantedBytes * COPIES, options);
  const { dir, isInMemory } = workspace;
  note(`${shape.name}: ${shape.sizesBytes.length} NARs, ${(wantedBytes / 1e6).toFixed(0)} MB, in ${dir}`);
  const env = { ...process.env, ...homeBelow(dir) };
  await using scene = await setScene(shape, dir, tools, { env, signal });
  const { totalBytes } = scene.cache;
  const contestants = options.contestants.filter(({ closures }) => closures?.includes(shape.name) ?? true);
  const outcomes = await runRounds(scene, contestants, {
    rounds: options.rounds,
    limitS: LIMIT_S,
    env,
    signal,
    onRun: (round, { name }) => note(`  round ${round + 1} of ${options.rounds}: ${name}`),
  });
  const rows = makeRows(outcomes, totalBytes);
  const targets = targetsOf(shape.name, rows);
  return { closure: shape.name, narCount: shape.sizesBytes.length, totalBytes, dir, isInMemory, rows, targets };
}

/** Separates the run from the user's settings and caches, in both directions. */
function homeBelow(dir: string): NodeJS.ProcessEnv {
  const home = join(dir, 'home');
  return {
    HOME: home,
    NARSWARM_CONFIG: '/dev/null',
    STATE_DIRECTORY: join(home, 'narswarm'),
    XDG_CACHE_HOME: join(home, 'cache'),
    XDG_CONFIG_HOME: join(home, 'config'),
    XDG_STATE_HOME: join(home, 'state'),
  };
}

function tell(machine: Readonly<Record<string, string | number>>, reports: readonly ClosureReport[]): void {
  const facts = Object.entries(machine).map(([fact, value]) => `${fact} ${value}`);
  console.log(facts.join(', '));
  for (const { closure, narCount, totalBytes, isInMemory, rows, targets } of reports) {
    const place = isInMemory ? 'files in memory (tmpfs)' : 'files on disk';
    console.log(`\n${closure}: ${narCount} NARs, ${(totalBytes / 1e6).toFixed(0)} MB, ${place}\n`);
    console.log(formatRows(rows));
    if (targets.length > 0) console.log(`\n${formatTargets(targets)}`);
  }
}

/** Progress, for people only. */
function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function main(signal: AbortSignal): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    console.log(HELP);
    return;
  }
  const tools = await findTools();
  const machine = machineFacts(tools);
  note('building dist/');
  await build(signal);
  const reports: ClosureReport[] = [];
  for (const name of options.closures) {
    // oxlint-disable-next-line no-await-in-loop -- one at a time is the point
    reports.push(await compare(CLOSURES[name](), tools, options, signal));
  }
  if (options.json) console.log(JSON.stringify({ machine, rounds: options.rounds, closures: reports }));
  else tell(machine, reports);
  if (reports.some(({ rows }) => rows.some((row) => row.isNarswarm && row.failure !== undefined))) process.exitCode = 1;
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
try {
  await main(interrupt.signal);
} catch (error) {
  note(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = interrupt.signal.aborted ? 130 : 1;
}
