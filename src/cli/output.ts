import { isPlanned, NarswarmError, type ErrorFacts } from '../errors.ts';
import { escapeControls } from '../nix/quote.ts';
import { withoutPasswords } from '../redact.ts';
import { errorSentence } from './words/error-sentences.ts';
import { LiveLines } from './live/live-lines.ts';
import type { LogFormat, LogLevel } from '../config/log-levels.ts';
import { isWritten, logLine, withPriority } from './log.ts';
import { withPlaces, type PlaceOf } from './options/places.ts';
import { mayNamePublisher, shortener } from './words/publisher-names.ts';
import type { PublisherAddress } from '../index/address.ts';
import { isTooManyFiles, TOO_MANY_FILES } from '../disk/too-many-files.ts';

/**
 * The output of a command: results on stdout, everything for people on stderr. With `--json`, stdout is one JSON object
 * per line, each with an `event`.
 */
export interface Output {
  readonly json: boolean;
  /** True if all output is a log, one JSON object a line on stderr. */
  readonly isLog: boolean;
  /** The lines at the end of the terminal. Undefined if nothing can be redrawn, or if progress is not wanted. */
  readonly live: LiveLines | undefined;
  /** Width of the terminal that results are printed on, in characters. Undefined without a terminal. */
  readonly columns: number | undefined;
  /** Returns the publishers that have a short name. */
  followed(): readonly PublisherAddress[];
  /**
   * Puts short names instead of the addresses of followed publishers. Notes, warnings and errors for people have them
   * anyway; a result has them only if its address need not be copied.
   *
   * @param others publishers that are named, too
   */
  forPeople(text: string, others?: readonly PublisherAddress[]): string;
  /** Prints a result. People get `text` instead; nothing if it is undefined. */
  result(event: string, facts: Record<string, unknown>, text?: string): void;
  /** Prints a step or remark on stderr. Omitted with --json and --quiet. */
  note(text: string): void;
  /** Prints a problem that did not end the command. People do not get `facts`. */
  warn(text: string, facts?: Readonly<Record<string, unknown>>): void;
  /** Prints a line that only helps to find a fault. */
  debug(text: string, facts?: Readonly<Record<string, unknown>>): void;
}

/** The options of a command that decide which lines it prints. Levels may change while it runs. */
export interface OutputOptions {
  readonly json?: boolean | undefined;
  readonly quiet?: boolean | undefined;
  readonly logFormat?: LogFormat | undefined;
  readonly logLevel?: LogLevel | undefined;
}

/**
 * Writes text for people. Text from strangers (names, server messages) cannot control the terminal, and addresses do
 * not show their passwords. The journal of systemd gets the level of each line.
 */
export function printTo(stream: NodeJS.WritableStream, text: string, level: LogLevel = 'info'): void {
  stream.write(withPriority(stream, escapeControls(withoutPasswords(text)), level));
}

/** Writes one line of JSON to stdout. */
export function printJson(value: Readonly<Record<string, unknown>>): void {
  printTo(process.stdout, `${JSON.stringify(value)}\n`);
}

/** The parts of the configuration that messages for people need. */
export interface Known {
  /** Returns the publishers that it follows. */
  readonly followed: () => readonly PublisherAddress[];
  readonly placeOf: PlaceOf;
}

const NOTHING_KNOWN: Known = { followed: () => [], placeOf: () => undefined };

/**
 * Writes to the process's own stdout and stderr, above the live lines. Removes these for good when `signal` is aborted.
 *
 * @param known what the command knows of its configuration. Default: nothing
 */
export function makeOutput(
  options: OutputOptions,
  signal?: AbortSignal,
  { followed, placeOf }: Known = NOTHING_KNOWN,
): Output {
  const json = options.json === true;
  const isLog = !json && options.logFormat === 'json';
  const isShown = (level: LogLevel): boolean => isWritten(level, options.logLevel ?? 'info');
  const log = (level: LogLevel, text: string, facts?: Readonly<Record<string, unknown>>): void =>
    printTo(process.stderr, `${logLine(level, text, facts)}\n`, level);
  const live =
    !json && !isLog && options.quiet !== true && canRedraw(process.stderr, process.env)
      ? new LiveLines({ screen: process.stderr, env: process.env })
      : undefined;
  signal?.addEventListener('abort', () => live?.interrupt(), { once: true });
  const forPeople: Output['forPeople'] = (text, others = []) =>
    withPlaces(mayNamePublisher(text) ? shortener([...followed(), ...others])(text) : text, placeOf);
  const above = (print: () => void): void => (live === undefined ? print() : live.above(print));
  return {
    json,
    isLog,
    live,
    columns: process.stdout.isTTY ? process.stdout.columns : undefined,
    followed,
    forPeople,
    result(event, facts, text) {
      if (json) printJson({ event, ...facts });
      else if (!isShown('info')) return;
      else if (isLog) log('info', text ?? event, { event, ...facts });
      else if (text === undefined) return;
      else if (process.stdout.isTTY) above(() => printTo(process.stdout, `${text}\n`));
      else printTo(process.stdout, `${text}\n`);
    },
    note(text) {
      if (json || options.quiet === true || !isShown('info')) return;
      if (isLog) log('info', text);
      else above(() => printTo(process.stderr, `${forPeople(text)}\n`));
    },
    warn(text, facts) {
      if (json) printJson({ event: 'warning', message: text, ...facts });
      else if (!isShown('warn')) return;
      else if (isLog) log('warn', text, facts);
      else above(() => printTo(process.stderr, `warning: ${forPeople(text)}\n`, 'warn'));
    },
    debug(text, facts) {
      if (json || !isShown('debug')) return;
      if (isLog) log('debug', text, facts);
      else above(() => printTo(process.stderr, `${forPeople(text)}\n`, 'debug'));
    },
  };
}

/** Returns true for a terminal whose lines can be redrawn. Logs of CI keep every frame, even if they look like one. */
function canRedraw(stream: NodeJS.WriteStream, { TERM, CI }: NodeJS.ProcessEnv): boolean {
  return stream.isTTY && TERM !== undefined && TERM !== 'dumb' && (CI === undefined || CI === '' || CI === 'false');
}

function describeUnknown(error: unknown): string {
  if (isTooManyFiles(error)) return TOO_MANY_FILES;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Reports a failure in one sentence (with --json also as an event). Returns its exit status. */
export function reportFailure(
  error: unknown,
  {
    json,
    isLog = false,
    forPeople = (text) => text,
  }: { readonly json: boolean; readonly isLog?: boolean; readonly forPeople?: Output['forPeople'] },
): number {
  const known = error instanceof NarswarmError ? error : undefined;
  const message = known === undefined ? describeUnknown(error) : errorSentence(known);
  const facts: ErrorFacts = known?.facts ?? {};
  const exitStatus = known?.exitStatus ?? 1;
  if (json) printJson({ event: 'error', code: known?.code ?? 'INTERNAL', message, exitStatus, facts });
  const asPlanned = known !== undefined && isPlanned(known);
  const level = asPlanned ? 'info' : 'error';
  const text = isLog
    ? logLine(level, message, { code: known?.code ?? 'INTERNAL', exitStatus, facts })
    : `${asPlanned ? '' : 'error: '}${json ? message : forPeople(message)}`;
  printTo(process.stderr, `${text}\n`, level);
  if (process.env['NARSWARM_DEBUG'] !== undefined && known?.cause !== undefined) console.error(known.cause);
  return exitStatus;
}
