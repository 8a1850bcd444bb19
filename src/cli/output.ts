import { NarswarmError, type ErrorFacts } from '../errors.ts';
import { escapeControls } from '../nix/quote.ts';
import { withoutPasswords } from '../redact.ts';
import { isTooManyFiles, TOO_MANY_FILES } from '../disk/too-many-files.ts';

/**
 * What a command says: results on stdout, everything for people on stderr. With `--json` stdout is one JSON object a
 * line, each with an `event`.
 */
export interface Output {
  readonly json: boolean;
  /** A result. `text` is what a person gets in its place; nothing for none. */
  result(event: string, facts: Record<string, unknown>, text?: string): void;
  /** A step or remark, on stderr; left out with --json and --quiet. */
  note(text: string): void;
  /** Something that went wrong and was mended. */
  warn(text: string): void;
}

/**
 * Writes text for people. What strangers have put into it (names, server messages) cannot act on a terminal, and no address
 * shows its password.
 */
export function printTo(stream: NodeJS.WritableStream, text: string): void {
  stream.write(escapeControls(withoutPasswords(text)));
}

/** Writes one line of JSON to stdout. */
export function printJson(value: Readonly<Record<string, unknown>>): void {
  printTo(process.stdout, `${JSON.stringify(value)}\n`);
}

/** Writes to the process's own stdout and stderr. */
export function makeOutput(options: { json?: boolean | undefined; quiet?: boolean | undefined }): Output {
  const json = options.json === true;
  return {
    json,
    result(event, facts, text) {
      if (json) printJson({ event, ...facts });
      else if (text !== undefined) printTo(process.stdout, `${text}\n`);
    },
    note(text) {
      if (!json && options.quiet !== true) printTo(process.stderr, `${text}\n`);
    },
    warn(text) {
      if (json) printJson({ event: 'warning', message: text });
      else printTo(process.stderr, `warning: ${text}\n`);
    },
  };
}

function describeUnknown(error: unknown): string {
  if (isTooManyFiles(error)) return TOO_MANY_FILES;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Reports a failure in one sentence (with --json also as an event) and gives the exit status for it. */
export function reportFailure(error: unknown, json: boolean): number {
  const known = error instanceof NarswarmError ? error : undefined;
  const message = known?.message ?? describeUnknown(error);
  const facts: ErrorFacts = known?.facts ?? {};
  const exitStatus = known?.exitStatus ?? 1;
  if (json) printJson({ event: 'error', code: known?.code ?? 'INTERNAL', message, exitStatus, facts });
  const isPlanned = known?.code === 'INTERRUPTED' && facts['until'] !== undefined; // the end of the time window
  printTo(process.stderr, `${isPlanned ? '' : 'error: '}${message}\n`);
  if (process.env['NARSWARM_DEBUG'] !== undefined && known?.cause !== undefined) console.error(known.cause);
  return exitStatus;
}
