import { isatty } from 'node:tty';
import type { Command } from 'commander';
import type { Config } from '../config/load.ts';
import { EXIT_STATUSES, firstFailure, NarswarmError } from '../errors.ts';
import { keepNixConfig } from '../nix/programs/kept-config.ts';
import { saveCompiled } from './start/compile-cache.ts';
import { configOf, followedBy, originOf, placeOf, type OriginOf } from './options/configuration.ts';
import { makeOutput, reportFailure, type Output, type OutputOptions } from './output.ts';

/** Options that every command has. */
export type CommonOptions = OutputOptions;

/** The surroundings of a command. */
export interface CommandContext<O> {
  readonly output: Output;
  /** Aborted by Ctrl-C, SIGTERM, the end of the terminal (SIGHUP), or the end of the program that reads stdout. */
  readonly signal: AbortSignal;
  /** Its options, from flags, the environment, the config file and defaults. */
  readonly options: O;
  /** Returns the origin of an option's value. */
  readonly originOf: OriginOf;
  /** Returns the config file and the environment: subscriptions, and keys that are not options of this command. */
  readonly config: () => Promise<Config>;
  /** The command itself. */
  readonly self: Command;
  /** Does something at each SIGHUP that does not end the command: those of a process without a terminal. */
  readonly onHangup: (work: () => void) => void;
}

/**
 * Runs a command's work. Signals abort its signal; failures become one sentence and an exit status. A second Ctrl-C or
 * SIGTERM ends the process at once, and loses nothing either.
 *
 * @param options.stopMs limit on the time that the work takes to end. After it, the process is killed. Default: none
 */
export function command<O extends CommonOptions, A extends unknown[]>(
  work: (context: CommandContext<O>, ...args: A) => Promise<void>,
  { stopMs }: { readonly stopMs?: number } = {},
): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const options = args.at(-2) as O;
    const self = args.at(-1) as Command;
    const stop = new AbortController();
    let hangup = (): void => undefined;
    onInterruption(
      () => {
        stop.abort(new NarswarmError('INTERRUPTED', 'interrupted; run the same command again to continue'));
        if (stopMs !== undefined) setTimeout(() => killOurselves(output, stopMs), stopMs);
      },
      () => hangup(),
    );
    const output = makeOutput(options, stop.signal, {
      followed: () => followedBy(self),
      placeOf: (option) => placeOf(self, option),
    });
    try {
      const context: CommandContext<O> = {
        output,
        signal: stop.signal,
        options,
        originOf: originOf(self),
        config: () => configOf(self),
        self,
        onHangup: (doAtHangup) => void (hangup = doAtHangup),
      };
      await work(context, ...(args.slice(0, -2) as A));
      if (!stop.signal.aborted) await keepNixConfig({ signal: stop.signal }).catch(() => undefined); // only saves time
    } catch (error) {
      process.exitCode = reportFailure(stop.signal.aborted ? stop.signal.reason : firstFailure(error), output);
    }
    // Half-open sockets of peers and timers of libraries must not keep a finished command alive.
    await new Promise((resolve) => process.stdout.write('', resolve));
    process.exit();
  };
}

/** Limit on the end of a service, after which its manager would kill it. */
const SERVICE_STOP_MS = 8_000;

/** Runs the work of a service as {@link command} does, and ends within ten seconds once it is stopped. */
export function service<O extends CommonOptions>(
  work: (context: CommandContext<O>) => Promise<void>,
): (...args: unknown[]) => Promise<void> {
  return command<O, []>(work, { stopMs: SERVICE_STOP_MS });
}

/**
 * Ends a process whose work does not. A read of a disk that does not answer keeps even `process.exit` waiting, since it
 * waits for the threads that read.
 */
function killOurselves(output: Output, stopMs: number): void {
  output.warn(
    `something does not end within ${stopMs / 1_000} s, such as a read of a disk that does not answer; killed`,
  );
  process.kill(process.pid, 'SIGKILL');
}

/** Two signals this close together count as one: they may come from a terminal and from our parent process. */
const TOGETHER_MS = 200;

/**
 * Calls `interrupt` if somebody wants the command to end, or if nobody is left: the terminal or the other end of a pipe
 * was closed. That may cause several signals at once (shell, kernel and systemd each send a SIGHUP), so only Ctrl-C and
 * SIGTERM count as a second request.
 *
 * A process without a terminal, as under nohup or systemd, does not end at SIGHUP: `hangup` is called. (Node restores the default action before our code
 * runs, so it cannot be seen that nohup had ignored the signal.)
 */
function onInterruption(interrupt: () => void, hangup: () => void): void {
  let isTold = false;
  const stopOrEnd = (): void => {
    if (isTold) process.exit(EXIT_STATUSES.INTERRUPTED[0]);
    isTold = true;
    // After this delay the kernel handles a second signal, without our event loop. Not at once: a signal on its way
    // would be lost, and other listeners of the first one, such as execa's, would end the process.
    setTimeout(() => process.off('SIGINT', stopOrEnd).off('SIGTERM', stopOrEnd), TOGETHER_MS).unref();
    interrupt();
  };
  process.on('SIGINT', stopOrEnd);
  process.on('SIGTERM', stopOrEnd);
  const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));
  process.on('SIGHUP', hasTerminal ? interrupt : hangup);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') interrupt();
  });
}

/**
 * Waits until the user ends a service that is ready, then returns: that is the normal end of a service. Saves compiled
 * code first, so that the next start finds it however this one ends.
 */
export function untilStopped(signal: AbortSignal): Promise<void> {
  saveCompiled();
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
