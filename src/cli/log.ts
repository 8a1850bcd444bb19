/** Lines of a log: as JSON in the form of pino, and with the priorities of syslog in the journal of systemd. */
import { fstatSync } from 'node:fs';
import { hostname } from 'node:os';
import { LOG_LEVELS, type LogLevel } from '../config/log-levels.ts';

/** Priorities of syslog(3). */
const PRIORITIES: Readonly<Record<LogLevel, number>> = { error: 3, warn: 4, info: 6, debug: 7 };
/** Levels of pino, which its tools know. */
const NUMBERS: Readonly<Record<LogLevel, number>> = { error: 50, warn: 40, info: 30, debug: 20 };

/** Returns true for a level that is written if `least` is asked for. */
export function isWritten(level: LogLevel, least: LogLevel): boolean {
  return LOG_LEVELS.indexOf(level) <= LOG_LEVELS.indexOf(least);
}

/** Returns a line as pino writes it, without the newline. */
export function logLine(level: LogLevel, message: string, facts: Readonly<Record<string, unknown>> = {}): string {
  const { pid } = process;
  return JSON.stringify({ level: NUMBERS[level], time: Date.now(), pid, hostname: hostname(), ...facts, msg: message });
}

/** Puts the priority before each line (sd-daemon(3)), if the stream leads into the journal. */
export function withPriority(stream: NodeJS.WritableStream, text: string, level: LogLevel): string {
  if (!isJournal(stream, process.env['JOURNAL_STREAM'])) return text;
  return text.replaceAll(/^(?=.)/gm, `<${PRIORITIES[level]}>`);
}

/** The variable has the device and the inode of the journal's socket (systemd.exec(5)). Programs that redirect pass it on. */
function isJournal(stream: NodeJS.WritableStream & { readonly fd?: number }, journal: string | undefined): boolean {
  if (journal === undefined || stream.fd === undefined) return false;
  const { dev, ino } = fstatSync(stream.fd);
  return journal === `${dev}:${ino}`;
}
