import { NarswarmError, type ErrorFacts } from '../errors.ts';

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

/** Writes to the process's own stdout and stderr. */
export function makeOutput(options: { json?: boolean | undefined; quiet?: boolean | undefined }): Output {
  const json = options.json === true;
  return {
    json,
    result(event, facts, text) {
      if (json) process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`);
      else if (text !== undefined) process.stdout.write(`${text}\n`);
    },
    note(text) {
      if (!json && options.quiet !== true) process.stderr.write(`${text}\n`);
    },
    warn(text) {
      if (json) process.stdout.write(`${JSON.stringify({ event: 'warning', message: text })}\n`);
      else process.stderr.write(`warning: ${text}\n`);
    },
  };
}

/** Reports a failure in one sentence (with --json also as an event) and gives the exit status for it. */
export function reportFailure(error: unknown, json: boolean): number {
  const known = error instanceof NarswarmError ? error : undefined;
  const message = known?.message ?? (error instanceof Error ? (error.stack ?? error.message) : String(error));
  const facts: ErrorFacts = known?.facts ?? {};
  const exitStatus = known?.exitStatus ?? 1;
  if (json)
    process.stdout.write(
      `${JSON.stringify({ event: 'error', code: known?.code ?? 'INTERNAL', message, exitStatus, facts })}\n`,
    );
  const isPlanned = known?.code === 'INTERRUPTED' && facts['until'] !== undefined; // the end of the time window
  process.stderr.write(`${isPlanned ? '' : 'error: '}${message}\n`);
  if (process.env['NARSWARM_DEBUG'] !== undefined && known?.cause !== undefined) console.error(known.cause);
  return exitStatus;
}
