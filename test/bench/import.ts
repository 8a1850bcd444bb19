/** Time from a binary cache into a Nix store, narswarm beside nix copy: `npm run bench:import`, see `--help`. */
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { writeBinaryCache, type BinaryCache } from './binary-cache.ts';
import { CLOSURES } from './closures.ts';
import { assertImported } from './import-check.ts';
import { storeOf, type ImportContestant } from './import-contestants.ts';
import { openLine, type Line } from './import-line.ts';
import { findNixes, type NixVersion } from './import-nixes.ts';
import { IMPORT_HELP, parseImportOptions, type ImportOptions } from './import-options.ts';
import { formatImports, formatRate, makeImportRows, type ImportResult } from './import-report.ts';
import { importTargetsOf } from './import-targets.ts';
import { measure, type Argv, type Measurement } from './process.ts';
import { formatTargets } from './report.ts';
import { narswarm } from './scene.ts';
import { systemNars } from './system-nar.ts';
import { findTools, machineFacts, type Tools } from './tools.ts';
import { makeWorkspace } from './workspace.ts';

/** Sizes of the closure on disk at most: the cache, a file store, and the unpacked files with room to spare. */
const COPIES = 10;

/** The parts of all runs. */
interface Stage {
  readonly cache: BinaryCache;
  /** Holds a folder for each form of the NARs. */
  readonly caches: string;
  readonly tools: Tools;
  readonly options: ImportOptions;
  /** For the files of one run. */
  readonly dir: string;
  readonly signal: AbortSignal;
}

/** Runs all contestants over one line: each once a round, so that changes of the machine affect all of them. */
async function play(rateKbit: number | undefined, nixes: readonly NixVersion[], stage: Stage): Promise<ImportResult[]> {
  const { caches, tools, options, signal } = stage;
  await using line = await openLine(caches, rateKbit, tools.python.program, { env: process.env, signal });
  const results = nixes.flatMap((nix) =>
    options.contestants.map((contestant) => ({
      rateKbit,
      nix,
      contestant,
      runs: [] as Measurement[],
      failure: undefined as string | undefined,
    })),
  );
  for (let round = 0; round < options.rounds; round++) {
    const shift = round % results.length; // no contestant always follows the same other one
    for (const result of [...results.slice(shift), ...results.slice(0, shift)]) {
      if (result.failure !== undefined) continue;
      const { nix, contestant } = result;
      const outcome = await runOnce(contestant, nix, line, stage);
      if (typeof outcome === 'string') result.failure = outcome;
      else result.runs.push(outcome);
      const told = typeof outcome === 'string' ? outcome : `${outcome.wallS.toFixed(2)} s`;
      note(
        `round ${round + 1} of ${options.rounds}, ${formatRate(rateKbit)}, Nix ${nix.version}, ${contestant.text}: ${told}`,
      );
    }
  }
  return results;
}

/** One measured import into an empty store; a text says why there is no measurement. */
async function runOnce(
  contestant: ImportContestant,
  nix: NixVersion,
  line: Line,
  { cache, tools, options, dir, signal }: Stage,
): Promise<Measurement | string> {
  const task = { cache, cacheUrl: `${line.cacheUrl}/${contestant.nars}`, dir };
  const process = { env: environment(dir, nix, cache), signal };
  await mkdir(join(dir, 'home'), { recursive: true });
  try {
    const command = [...line.wrapper, ...contestant.command(task)] as readonly string[] as Argv;
    const { log, ...measurement } = await measure(tools.python.program, command, options.limitS, process);
    if (measurement.isTimeout) return `> ${options.limitS} s`;
    if (measurement.status !== 0) return `exit status ${measurement.status}: ${log}`;
    await assertImported(storeOf(task), cache, process);
    return measurement;
  } catch (error) {
    signal.throwIfAborted();
    return error instanceof Error ? error.message : String(error);
  } finally {
    await execa('chmod', ['-R', 'u+w', dir]); // the folders of a Nix store are read-only
    await execa('rm', ['-rf', dir]);
  }
}

/**
 * Separates a run from the user's settings and caches, in both directions. Compiled code stays from one run to the next,
 * as on a user's machine.
 */
function environment(dir: string, { path }: NixVersion, { publicKey }: BinaryCache): NodeJS.ProcessEnv {
  const home = join(dir, 'home');
  return {
    PATH: path,
    HOME: home,
    TMPDIR: home,
    NARSWARM_CONFIG: '/dev/null',
    STATE_DIRECTORY: join(home, 'state'),
    XDG_CACHE_HOME: join(home, 'cache'),
    NODE_COMPILE_CACHE: `${dir}-compiled`,
    XDG_CONFIG_HOME: join(home, 'config'),
    NIX_CONFIG: ['substituters =', 'build-users-group =', `trusted-public-keys = ${publicKey}`].join('\n'),
  };
}

/** Copies a cache, with zstd files of its NARs. @returns their bytes */
async function recompress(cache: BinaryCache, dir: string, signal: AbortSignal): Promise<number> {
  await cp(cache.dir, dir, { recursive: true });
  const key = ['--key', `${dir}.key`, '--trusted-public-key', cache.publicKey];
  const [program, ...args] = narswarm('publish', '--once', '--store', dir, ...key, '--recompress', 'zstd', '--json');
  const { stdout } = await execa(program, args, { env: { NARSWARM_CONFIG: '/dev/null' }, cancelSignal: signal });
  const line = stdout.split('\n').find((text) => text.includes('"recompressed"'));
  return (JSON.parse(line ?? '{}') as { bytes: number }).bytes;
}

/** Progress, for people only. */
function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function main(signal: AbortSignal): Promise<void> {
  const options = parseImportOptions(process.argv.slice(2));
  if (options.help) {
    console.log(IMPORT_HELP);
    return;
  }
  const tools = await findTools();
  const nixes = findNixes(options.nixes, (name, reason) => note(`without the Nix called ${name}: ${reason}`));
  const shape = CLOSURES[options.closure]();
  const wantedBytes = shape.sizesBytes.reduce((sum, size) => sum + size, 0);
  await using workspace = await makeWorkspace(wantedBytes * COPIES, options);
  const [caches, torrentDir] = [join(workspace.dir, 'caches'), join(workspace.dir, 'torrents')];
  note('making the NARs, unless an earlier run has made them');
  const cache = await writeBinaryCache(shape, join(caches, 'xz'), torrentDir, { make: await systemNars() });
  const totalBytes = { xz: cache.totalBytes, zstd: await recompress(cache, join(caches, 'zstd'), signal) };
  const stage: Stage = { cache, caches, tools, options, dir: join(workspace.dir, 'run'), signal };
  const results: ImportResult[] = [];
  for (const rateKbit of options.ratesKbit) results.push(...(await play(rateKbit, nixes, stage)));
  const rows = makeImportRows(results, totalBytes);
  const targets = importTargetsOf(rows);
  if (options.json) {
    console.log(JSON.stringify({ machine: machineFacts(tools), options, totalBytes, rows, targets }));
  } else {
    const place = workspace.isInMemory ? 'in memory (tmpfs)' : 'on disk';
    console.log(
      `${shape.name}: ${cache.nars.length} NARs, ${(totalBytes.xz / 1e6).toFixed(1)} MB of xz, ${(totalBytes.zstd / 1e6).toFixed(1)} MB of zstd, files ${place}\n`,
    );
    console.log(`${formatImports(rows)}\n\n${formatTargets(targets)}`);
  }
  if (rows.some(({ failure }) => failure !== undefined)) process.exitCode = 1;
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
await main(interrupt.signal);
