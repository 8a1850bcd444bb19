/**
 * Runs Nix, for versions from 2.8 on. Enables `nix-command` on each call, and reads output that changed between versions
 * defensively. Aborting `signal` ends Nix, or keeps it from starting, and throws the signal's reason.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { NarswarmError } from '../../errors.ts';
import { withinMs } from '../../within.ts';
import { deniedDaemon } from './daemon-access.ts';
import type { StorePath } from '../brands.ts';

/** Limit for one command line: the kernel bounds its length, and 1000 store paths are well below. */
const MAX_PATHS_PER_CALL = 1000;
export const NIX_COMMAND = ['--extra-experimental-features', 'nix-command'];
const WITHOUT_NIX =
  'install Nix, or do without it: --from and --trusted-public-key replace its configuration, --no-copy skips the import';

export interface CallOptions {
  /** Ends Nix when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** The way out if Nix is not installed, for the error. */
  readonly withoutNix?: string | undefined;
  /** Environment variables for Nix, added to those of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Limit on the time of a question, in milliseconds. Default: ten minutes. Infinity: none, for work such as an evaluation. */
  readonly limitMs?: number | undefined;
}

/** Answers come within seconds, from a slow disk or a remote store within minutes. A Nix daemon that hangs never answers. */
const QUESTION_MS = 10 * 60_000;

/** Options of a call that asks a store. */
export interface StoreCallOptions extends CallOptions {
  /** URI of the store, such as `local?root=/mnt`. Undefined: Nix's default store. */
  readonly store?: string | undefined;
}

export function storeArgs({ store }: StoreCallOptions): string[] {
  return store === undefined ? [] : ['--store', store];
}

interface RunOptions extends CallOptions {
  /** Called with each line that Nix prints, at once. */
  readonly onLine?: ((line: string) => void) | undefined;
}

/** The end of a Nix program. Fit to be the cause of an error. */
export interface RunResult {
  readonly failed: boolean;
  /** Without the last end of line, as stderr. */
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode?: number | undefined;
  /** The signal that ended it. */
  readonly signal?: string | undefined;
  /** Why it could not be started. */
  readonly originalMessage?: string | undefined;
}

const PLAIN = { LC_ALL: 'C', NO_COLOR: '1' };

/** Runs a Nix program to its end. */
export async function runNix(
  program: 'nix' | 'nix-store',
  args: readonly string[],
  options: RunOptions,
): Promise<RunResult> {
  const { onLine, signal, env } = options;
  signal?.throwIfAborted();
  const { execa } = await import('execa');
  const result = await execa(program, args, {
    env: { ...PLAIN, ...env },
    stdin: 'ignore',
    stderr: function* (line: unknown) {
      onLine?.(String(line));
      yield line;
    },
    reject: false,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  if (result.isCanceled) signal?.throwIfAborted();
  if (result.code === 'ENOENT') throw nixMissing(program, options, result);
  return result;
}

/**
 * Runs a Nix program as {@link runNix} does, for questions with a quick answer. It does not load execa, which takes 20 ms of
 * processor time: more than Nix needs for the answer.
 *
 * @throws NarswarmError `NIX_MISSING`; `NIX_FAILED` if there is no answer within `limitMs`; the signal's reason
 */
export async function askNix(
  program: 'nix' | 'nix-store' | 'nix-env',
  args: readonly string[],
  options: CallOptions,
): Promise<RunResult> {
  const { signal, env, limitMs = QUESTION_MS } = options;
  signal?.throwIfAborted();
  const child = spawn(program, args, {
    env: { ...process.env, ...PLAIN, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const end = (): boolean => child.kill();
  process.once('exit', end);
  signal?.addEventListener('abort', end);
  try {
    const ended = once(child, 'close') as Promise<[exitCode: number | null, signal: string | null]>;
    const answering = Promise.all([ended, text(child.stdout), text(child.stderr)]);
    const answer = await (limitMs === Infinity ? answering : withinMs(limitMs, answering));
    signal?.throwIfAborted();
    if (answer === undefined) throw silentNix(child, program, args, limitMs);
    const [[exitCode, endedBy], stdout, stderr] = answer;
    return {
      failed: exitCode !== 0,
      stdout: stdout.replace(/\n$/, ''),
      stderr: stderr.replace(/\n$/, ''),
      exitCode: exitCode ?? undefined,
      signal: endedBy ?? undefined,
    };
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof NarswarmError) throw error;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw nixMissing(program, options, error);
    const originalMessage = error instanceof Error ? error.message : String(error);
    return { failed: true, stdout: '', stderr: '', originalMessage };
  } finally {
    process.off('exit', end);
    signal?.removeEventListener('abort', end);
  }
}

/** Kills a Nix that does not answer. Does not wait for its end: one that waits for a broken disk cannot be killed. */
function silentNix(child: ChildProcess, program: string, args: readonly string[], limitMs: number): NarswarmError {
  child.kill('SIGKILL');
  child.unref();
  child.stdout?.destroy();
  child.stderr?.destroy();
  const command = [program, ...args.filter((arg, at) => at < 4 && !NIX_COMMAND.includes(arg))].join(' ');
  const words = `\`${command}\` has not answered within ${limitMs / 1000} s`;
  return new NarswarmError('NIX_FAILED', `${words}: if the nix-daemon hangs, restart it`, { facts: { words } });
}

function nixMissing(program: string, { withoutNix = WITHOUT_NIX }: CallOptions, cause: unknown): NarswarmError {
  return new NarswarmError('NIX_MISSING', `there is no \`${program}\` in PATH: ${withoutNix}`, { cause });
}

/** Runs the first of several commands that this Nix knows. */
export async function runFirstKnown(
  commands: readonly (readonly string[])[],
  options: CallOptions,
): Promise<RunResult> {
  for (const command of commands) {
    // oxlint-disable-next-line no-await-in-loop -- the next one is tried only if this Nix lacks the one before
    const result = await askNix('nix', [...NIX_COMMAND, ...command], options);
    if (!result.failed) return result;
    if (!/not a recogni[sz]ed|unrecogni[sz]ed/.test(result.stderr)) throw nixFailed(result);
  }
  const names = commands.map((command) => `\`nix ${command.join(' ')}\``);
  throw new NarswarmError('NIX_FAILED', `this nix has neither ${names.join(' nor ')}`);
}

export function nixFailed(result: RunResult): NarswarmError {
  const words = lastWordsOf(result);
  const wayOut = DENIED.test(words) ? `: ${OTHER_STORE}` : '';
  const facts = { words, isOfNetwork: OF_NETWORK.test(words) };
  return (
    deniedDaemon(words, result) ??
    new NarswarmError('NIX_FAILED', `nix failed: ${words}${wayOut}`, { cause: result, facts })
  );
}

/**
 * Matches Nix's complaint (with `LC_ALL=C`) about a download that failed. Git has said before why it did. Newer versions
 * name an input that is not on this machine, and then say only what their copy of it lacks.
 */
const OF_NETWORK = new RegExp(
  [
    "unable to (?:download|access)|'git' failed|failed to fetch|could ?n[o']t (?:connect|resolve)",
    String.raw`while fetching the input '(?!path:|(?:git\+)?file:)`,
  ].join('|'),
  'i',
);

/**
 * Matches Nix's complaint (with `LC_ALL=C`) about its own folders, if another user owns the store and no nix-daemon
 * runs.
 */
const DENIED = /\/nix\/(?:var|store)\b[^\n]*(?:Permission denied|Operation not permitted)/;
const OTHER_STORE =
  'this user cannot write the Nix store: start nix-daemon, run this as root, or name another store with --to';

/**
 * Returns stderr from its last line that begins with `error:`, in one line. If there is none, returns the last lines and the exit
 * status.
 */
export function lastWordsOf({ stderr, exitCode, signal, originalMessage }: RunResult): string {
  const [, words] = /^(?:[^]*\n)?error:([^]*)$/.exec(stderr) ?? [];
  if (words !== undefined)
    return words
      .replace(ADVICE, '')
      .trim()
      .replaceAll(/\s*\n\s*/g, ' ');
  const end = signal === undefined ? (originalMessage ?? `exit status ${exitCode}`) : `killed by ${signal}`;
  return [...stderr.trim().split('\n').slice(-3), `(${end})`].join(' ').trim();
}

/** Advice of Nix about its own command line. */
const ADVICE = /\s*\(use '--show-trace'[^)]*\)\s*$/;

/** Divides paths among as few command lines as possible. */
export function chunksOf(paths: readonly StorePath[]): StorePath[][] {
  const count = Math.ceil(paths.length / MAX_PATHS_PER_CALL);
  return Array.from({ length: count }, (_, index) =>
    paths.slice(index * MAX_PATHS_PER_CALL, (index + 1) * MAX_PATHS_PER_CALL),
  );
}
