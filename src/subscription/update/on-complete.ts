/**
 * Runs the user's command for each new complete generation. A generation counts as announced once the command has ended with
 * status 0. So it is run at least once, also after an interruption, and again by the next update if it has failed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolderBelow } from '../../disk/make-folder.ts';
import { inStore } from '../../disk/store-error.ts';
import { NarswarmError } from '../../errors.ts';
import type { FileStore } from '../../store/file-store.ts';
import { inState } from '../../store/state-folder.ts';
import { Turn } from '../../store/turn.ts';
import type { Generation, SubscriptionState } from '../state/state.ts';
import { replaceFile } from '../../disk/replace.ts';

/** Linux takes 128 KiB for one variable. */
const MAX_VARIABLE_BYTES = 100_000;

export interface AnnounceOptions {
  readonly store: FileStore;
  /** The states of the subscriptions that an update has brought up to date. */
  readonly states: readonly SubscriptionState[];
  /** For `/bin/sh -c`. */
  readonly command: string;
  readonly signal: AbortSignal;
  /** Called before the command is run for a subscription. */
  readonly onBegin?: (name: string) => void;
}

/**
 * Runs the command for each subscription whose newest generation is complete and was not announced. If another process
 * is doing that, leaves it to that process, since a command may itself run an update.
 *
 * @returns the failures
 * @throws STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function announceComplete(options: AnnounceOptions): Promise<NarswarmError[]> {
  const { store, states, command, signal, onBegin } = options;
  const failures: NarswarmError[] = [];
  if ((await unannounced(store, states)).length === 0) return [];
  const turn = await Turn.take(store, 'announcing');
  if (!(turn instanceof Turn)) return [];
  await using _turn = turn;
  for (const { name, generation } of await unannounced(store, states)) {
    signal.throwIfAborted();
    onBegin?.(name);
    const ended = await run(command, variables(store, name, generation), generation.roots, signal);
    signal.throwIfAborted();
    if (ended === 0) await note(store, name, generation);
    else failures.push(failureOf(name, ended));
  }
  return failures;
}

async function unannounced(
  store: FileStore,
  states: readonly SubscriptionState[],
): Promise<{ name: string; generation: Generation }[]> {
  const found: { name: string; generation: Generation }[] = [];
  for (const { name, generations } of states) {
    const [generation] = generations;
    if (generation?.complete !== true) continue;
    const known = await readFile(fileOf(store, name), 'utf8').catch(() => undefined);
    if (known !== nameOf(generation)) found.push({ name, generation });
  }
  return found;
}

async function note(store: FileStore, name: string, generation: Generation): Promise<void> {
  const folder = inState(store, 'announced');
  await inStore(makeFolderBelow(store.dir, folder), folder);
  await replaceFile(fileOf(store, name), nameOf(generation));
}

/** Two subscriptions of one name, one after the other, both begin with generation 1. */
function nameOf({ number, at }: Generation): string {
  return `${number} ${at}\n`;
}

function fileOf(store: Pick<FileStore, 'stateDir'>, name: string): string {
  return join(inState(store, 'announced'), name);
}

function variables(store: FileStore, name: string, { number, roots }: Generation): Record<string, string> {
  const joined = roots.join(' ');
  return {
    NARSWARM_SUBSCRIPTION: name,
    NARSWARM_GENERATION: String(number),
    NARSWARM_ROOTS: joined.length > MAX_VARIABLE_BYTES ? '' : joined,
    NARSWARM_STORE: store.dir,
  };
}

/**
 * Runs the command. It reads the roots from its stdin, one a line, and writes to our stderr, since our stdout is for
 * results.
 *
 * @returns its exit status, or the name of the signal that ended it
 */
async function run(
  command: string,
  variable: Readonly<Record<string, string>>,
  roots: readonly string[],
  signal: AbortSignal,
): Promise<number | string> {
  const child = spawn('/bin/sh', ['-c', command], {
    env: { ...process.env, ...variable },
    stdio: ['pipe', process.stderr, process.stderr],
  });
  const stop = (): void => void child.kill();
  signal.addEventListener('abort', stop, { once: true });
  child.stdin?.on('error', () => undefined); // it does not read them
  child.stdin?.end(roots.map((root) => `${root}\n`).join(''));
  try {
    const [status, ending] = (await once(child, 'exit')) as [number | null, string | null];
    return status ?? ending ?? 1;
  } catch (error) {
    return error instanceof Error ? error.message : String(error); // there is no shell
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function failureOf(name: string, ended: number | string): NarswarmError {
  const how = typeof ended === 'number' ? `exit status ${ended}` : ended;
  return new NarswarmError(
    'HOOK_FAILED',
    `${name}: the on-complete command failed (${how}); the next update runs it again`,
    {
      facts: { name, ended },
    },
  );
}
