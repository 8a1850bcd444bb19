/**
 * `npm run guards [-- NAME…]`: takes the guard of each invariant out, in a copy of the tree, and runs the row's tests. A row
 * whose tests pass without its guard fails. Only what is committed or staged is copied.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { patchFile, readGuards, ROOT, type Guard } from './table.ts';

/** Bound on one test: without its guard it may wait for ever. No whole test file takes half as long. */
const FILE_TIMEOUT_MS = 120_000;
/** Silence after which tests are ended, of which one has failed. */
const FAILED_SILENCE_MS = 10_000;

/** A copy of the tracked files, with the installed packages. */
function copyTree(): string {
  const copy = mkdtempSync(join(tmpdir(), 'narswarm-guards-'));
  chmodSync(copy, 0o755); // some tests start the program as another user
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' }).split('\0');
  for (const file of files) if (file !== '' && existsSync(ROOT + file)) cpSync(ROOT + file, join(copy, file));
  symlinkSync(`${ROOT}node_modules`, join(copy, 'node_modules'));
  return copy;
}

/** Runs a program in a folder. @returns what it printed, whatever its status */
function outputOf(file: string, args: readonly string[], cwd: string): Promise<{ failed: boolean; output: string }> {
  return new Promise((resolve) => {
    execFile(file, args, { cwd, maxBuffer: 256 * 1024 * 1024 }, (error, stdout, stderr) =>
      resolve({ failed: error !== null, output: stdout + stderr }),
    );
  });
}

/** Builds a copy: end-to-end tests start the program as it is installed. @throws Error if it cannot be built */
async function build(copy: string): Promise<void> {
  const { failed, output } = await outputOf('npm', ['run', '-s', 'build:program'], copy);
  if (failed) throw new Error(`it cannot be built: ${output}`);
}

/** Finds the titles of failed tests in what node:test has printed. */
function failedIn(output: string): string[] {
  return Array.from(output.matchAll(/^ *not ok \d+ - (.*?)(?: #.*)?$/gm), ([, title = '']) => title);
}

/**
 * Runs test files in a copy. A test that fails may leave a socket open, which would keep its process for ever: ends the
 * processes once they have been silent for a while. (`--test-force-exit` would lose results that are still to be printed.)
 *
 * @returns the titles of the tests that failed, and all that was printed
 */
async function failing(copy: string, files: readonly string[]): Promise<{ titles: string[]; output: string }> {
  const node = join(ROOT, 'node_modules/.bin/node');
  const options = ['--test', '--test-concurrency=1', '--test-reporter=tap', `--test-timeout=${FILE_TIMEOUT_MS}`];
  const child = spawn(node, [...options, ...files], { cwd: copy, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const end = (): void => void (child.pid !== undefined && process.kill(-child.pid, 'SIGKILL'));
  let timer = setTimeout(end, 2 * FILE_TIMEOUT_MS);
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      clearTimeout(timer);
      timer = setTimeout(end, failedIn(output).length > 0 ? FAILED_SILENCE_MS : 2 * FILE_TIMEOUT_MS);
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  clearTimeout(timer);
  const titles = failedIn(output);
  if (titles.length === 0 && status !== 0) titles.push(files.join(' '));
  return { titles, output };
}

/** Takes a guard out of a copy and puts it back. @returns the title of a test that fails without it, if one does */
async function proofOf(
  { name = '', tests }: Guard,
  copy: string,
  broken: ReadonlySet<string>,
): Promise<string | undefined> {
  execFileSync('git', ['apply', patchFile(name)], { cwd: copy });
  try {
    await build(copy);
    const { titles } = await failing(copy, tests);
    // A file that cannot be loaded fails under its own name: the patch broke more than the guard.
    return titles.find((title) => !title.endsWith('.test.ts') && !broken.has(title));
  } finally {
    execFileSync('git', ['apply', '-R', patchFile(name)], { cwd: copy });
  }
}

/** Does something with each item, in as many copies of the tree as there are processors. */
async function inCopies<T>(items: readonly T[], work: (item: T, copy: string) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const worker = async (): Promise<void> => {
    const copy = copyTree();
    try {
      await build(copy);
      for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item, copy);
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), items.length) }, worker));
}

/** The rows of these names; all of them without any. @throws Error for a name that no row has */
function chosen(names: readonly string[]): Guard[] {
  const guards = readGuards();
  const unknown = names.find((name) => guards.every((guard) => guard.name !== name));
  if (unknown !== undefined) throw new Error(`no row of the table names the guard ${unknown}`);
  return names.length === 0 ? guards : guards.filter(({ name = '' }) => names.includes(name));
}

const guards = chosen(process.argv.slice(2));
const files = [...new Set(guards.flatMap(({ tests }) => tests))];
process.stderr.write(`${guards.length} guards; first their ${files.length} test files with every guard in its place\n`);
/** Tests that prove nothing, since they fail anyway. */
const broken = new Set<string>();
await inCopies(files, async (file, copy) => {
  const { titles, output } = await failing(copy, [file]);
  if (titles.length === 0) return;
  for (const title of titles) broken.add(title);
  process.stdout.write(`${output}\n${file} fails with every guard in its place: ${titles.join('; ')}\n`);
  process.exitCode = 1;
});
let proven = 0;
await inCopies(guards, async (guard, copy) => {
  const proof = await proofOf(guard, copy, broken);
  if (proof !== undefined) proven++;
  const outcome =
    proof === undefined ? `nothing fails without it in ${guard.tests.join(', ')}` : `without it “${proof}” fails`;
  process.stdout.write(`${proof === undefined ? 'FAILS' : 'ok   '} ${guard.name}: ${outcome}\n`);
});
process.stdout.write(`${proven} of ${guards.length} guards have a test that fails without them\n`);
if (proven < guards.length) process.exitCode = 1;
