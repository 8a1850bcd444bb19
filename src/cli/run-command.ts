import { isatty } from 'node:tty';
import type { Command } from 'commander';
import type { Config } from '../config/load.ts';
import { EXIT_STATUSES, firstFailure, NarswarmError } from '../errors.ts';
import { configOf, originOf, type OriginOf } from './configuration.ts';
import { makeOutput, reportFailure, type Output } from './output.ts';

/** Options that every command has. */
export interface CommonOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** What a command works with. */
export interface CommandContext<O> {
  readonly output: Output;
  /** Aborted by Ctrl-C, SIGTERM, the end of the terminal (SIGHUP), and by the end of whoever reads stdout. */
  readonly signal: AbortSignal;
  /** Its options, from flags, the environment, the config file and defaults. */
  readonly options: O;
  /** Tells which of these an option's value came from. */
  readonly originOf: OriginOf;
  /** The config file and the environment: subscriptions, and keys that are no option of this command. */
  readonly config: () => Promise<Config>;
}

/**
 * Runs a command's work: signals abort its signal, failures become one sentence and an exit status. A second Ctrl-C or
 * SIGTERM ends the process at once: nothing is lost by that either.
 */
export function command<O extends CommonOptions, A extends unknown[]>(
  work: (context: CommandContext<O>, ...args: A) => Promise<void>,
): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const options = args.at(-2) as O;
    const self = args.at(-1) as Command;
    const stop = new AbortController();
    onInterruption(() =>
      stop.abort(new NarswarmError('INTERRUPTED', 'interrupted; run the same command again to go on from here')),
    );
    const output = makeOutput(options);
    try {
      const context = { output, signal: stop.signal, options, originOf: originOf(self), config: () => configOf(self) };
      await work(context, ...(args.slice(0, -2) as A));
    } catch (error) {
      process.exitCode = reportFailure(stop.signal.aborted ? stop.signal.reason : firstFailure(error), output.json);
    }
    // Sockets that a peer keeps half open and timers of libraries must not keep a finished command alive.
    await new Promise((resolve) => process.stdout.write('', resolve));
    process.exit();
  };
}

/** Two signals may come as close as this: from a terminal and from whoever started us. */
const TOGETHER_MS = 200;

/**
 * Calls `interrupt` when somebody wants the command to end, or nobody is there any more: the terminal was closed, or a
 * pipe's other end. That may be told several times at once (shell, kernel and systemd each send a SIGHUP of their own), so
 * only Ctrl-C and SIGTERM count as a second request.
 *
 * SIGHUP means nothing to a process that has no terminal. That is how nohup leaves it; that nohup had it ignored cannot be
 * seen, since Node restores the default before any code of ours runs.
 */
function onInterruption(interrupt: () => void): void {
  let isTold = false;
  const stopOrEnd = (): void => {
    if (isTold) process.exit(EXIT_STATUSES.INTERRUPTED[0]);
    isTold = true;
    // From then on a second one is the kernel's to carry out, which needs no turn of our event loop. Not at once: one that
    // is on its way when we stop listening is lost, and other listeners of the first, such as execa's, end the process.
    setTimeout(() => process.off('SIGINT', stopOrEnd).off('SIGTERM', stopOrEnd), TOGETHER_MS).unref();
    interrupt();
  };
  process.on('SIGINT', stopOrEnd);
  process.on('SIGTERM', stopOrEnd);
  const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));
  process.on('SIGHUP', hasTerminal ? interrupt : () => undefined);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') interrupt();
  });
}

/** Waits until the user ends a service: then returns, since that is how a service is meant to end. */
export function untilStopped(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
