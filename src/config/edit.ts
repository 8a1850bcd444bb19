/** Adds, changes and removes tables of subscriptions in the text of a config file. Leaves every other byte alone. */
import { isDeepStrictEqual } from 'node:util';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { outline, samePath, type Statement } from './outline.ts';
import { parseConfig, type ConfigFile } from './schema.ts';

const COMMENT = /^[ \t]*#/;
const BLANK = /^[ \t\r]*$/;

/**
 * Adds a table at the end of a text.
 *
 * @param file its name in messages
 * @throws USAGE if the name is taken, or if the form of the file allows no more tables
 */
export function addSubscription(text: string, subscription: Subscription, file: string): string {
  const before = parseConfig(text, file);
  const taken = before.subscriptions.find(({ name }) => name === subscription.name);
  if (taken !== undefined)
    throw new NarswarmError('USAGE', `${taken.where} has a subscription ${taken.name}: replace it with --replace`);
  const lineEnd = lineEndOf(text);
  const start = withLastLineEnd(text);
  const added = `${start}${start === '' ? '' : lineEnd}${tableOf(subscription).join(lineEnd)}${lineEnd}`;
  return checkEdit(added, [...before.subscriptions, subscription], before, file);
}

/**
 * Removes a table with its comments: those directly above it, and those directly below its last line. Keeps comments
 * that stand directly above the next statement.
 *
 * @throws USAGE if the form of the table does not allow to remove it
 */
export function removeSubscription(text: string, name: string, file: string): string {
  const before = parseConfig(text, file);
  const left = before.subscriptions.filter((subscription) => subscription.name !== name);
  const { statements } = outline(text);
  const [first, next] = extentOf(statements, name, file);
  return checkEdit(cut(text, statements, first, next), left, before, file);
}

/**
 * Changes a table in its place. A kept key keeps its line. A changed key keeps the text around its value. A removed key
 * loses its line. New keys follow the last one.
 *
 * @throws USAGE if there is no such table, or if its form does not allow to change it
 */
export function replaceSubscription(text: string, subscription: Subscription, file: string): string {
  const before = parseConfig(text, file);
  const { name } = subscription;
  const old = before.subscriptions.find((known) => known.name === name);
  if (old === undefined) throw byHand(file);
  const whole = withLastLineEnd(text);
  const { statements } = outline(whole);
  const [first, next] = extentOf(statements, name, file);
  const edits = editsOf(whole, statements.slice(first, next), entriesOf(old), entriesOf(subscription));
  const after = before.subscriptions.map((known) => (known.name === name ? subscription : known));
  return checkEdit(apply(whole, edits), after, before, file);
}

/**
 * Returns the indices of a table's header and of the one after its last statement. @throws USAGE if there is no header
 */
function extentOf(statements: readonly Statement[], name: string, file: string): [first: number, next: number] {
  const first = statements.findIndex(({ kind, path }) => kind === 'table' && samePath(path, ['subscriptions', name]));
  if (first === -1) throw byHand(file);
  const next = statements.findIndex(({ kind }, index) => index > first && kind === 'table');
  return [first, next === -1 ? statements.length : next];
}

/** Replaces the text in `[from, to)`. */
interface Edit {
  readonly from: number;
  readonly to: number;
  readonly by: string;
}

/** @param table the statements of a table, its header first */
function editsOf(
  text: string,
  table: readonly Statement[],
  had: ReadonlyMap<string, string>,
  wanted: ReadonlyMap<string, string>,
): Edit[] {
  const keyed = table.slice(1).map((statement) => ({ statement, key: String(statement.path[2]) }));
  const changes = keyed.flatMap(({ statement, key }) => {
    const by = wanted.get(key);
    if (by === had.get(key)) return [];
    return by === undefined ? dropLines(text, statement) : { from: statement.value, to: statement.end, by };
  });
  const added = [...wanted].filter(([name]) => keyed.every(({ key }) => key !== name));
  const lines = added.map(([key, value]) => `${key} = ${value}`);
  return [...changes, ...table.slice(-1).map((last) => insertBelow(text, last, lines))];
}

/** @param edits in the order of the text */
function apply(text: string, edits: readonly Edit[]): string {
  return edits.reduceRight((edited, { from, to, by }) => edited.slice(0, from) + by + edited.slice(to), text);
}

function dropLines(text: string, { start, end }: Statement): Edit {
  return { from: lineStart(text, start), to: lineStop(text, end), by: '' };
}

/** Inserts lines below a statement, with the same indentation. */
function insertBelow(text: string, { start, end }: Statement, lines: readonly string[]): Edit {
  const at = lineStop(text, end);
  const [indent = ''] = /^[ \t]*/.exec(text.slice(lineStart(text, start))) ?? [];
  return { from: at, to: at, by: lines.map((line) => `${indent}${line}${lineEndOf(text)}`).join('') };
}

function lineStart(text: string, offset: number): number {
  return text.slice(0, offset).lastIndexOf('\n') + 1;
}

/** Returns the offset after the end of the line. */
function lineStop(text: string, offset: number): number {
  const found = text.indexOf('\n', offset);
  return found === -1 ? text.length : found + 1;
}

function withLastLineEnd(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}${lineEndOf(text)}`;
}

function lineEndOf(text: string): string {
  return text.includes('\r\n') ? '\r\n' : '\n';
}

/** Removes statements by whole lines, from `first` up to but not including `next`. */
function cut(text: string, statements: readonly Statement[], first: number, next: number): string {
  const lines = text.split(/(?<=\n)/);
  const lineAt = (offset: number): number => text.slice(0, offset).split('\n').length - 1;
  const follower = statements[next];
  let from = lineAt(statements[first]?.start ?? 0);
  let to = lineAt(statements[next - 1]?.end ?? 0) + 1;
  // The end of a string over several lines may look like a comment.
  const above = first === 0 ? 0 : lineAt(statements[first - 1]?.end ?? 0) + 1;
  while (from > above && COMMENT.test(lines[from - 1] ?? '')) from--;
  let below = to;
  while (COMMENT.test(lines[below] ?? '')) below++;
  const belongsToNext = follower !== undefined && below === lineAt(follower.start);
  if (!belongsToNext) to = below;
  // Removes one blank line, so that the distance between tables stays: the one below, or at the end the one above.
  if (to < lines.length && isBlank(lines[to]) && (from === 0 || isBlank(lines[from - 1]))) to++;
  else if (to >= lines.length && from > 0 && isBlank(lines[from - 1])) from--;
  return [...lines.slice(0, from), ...lines.slice(to)].join('');
}

function isBlank(line: string | undefined): boolean {
  return line !== undefined && BLANK.test(line.replace('\n', ''));
}

function tableOf(subscription: Subscription): string[] {
  const { name } = subscription;
  const key = /^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name);
  return [`[subscriptions.${key}]`, ...Array.from(entriesOf(subscription), ([word, value]) => `${word} = ${value}`)];
}

/** Formats a subscription as TOML, without defaults. */
function entriesOf(subscription: Subscription): Map<string, string> {
  const { source, file, import: imports, to, profile, switchTo, sources, ready, publish } = subscription;
  const table = { source, file, import: imports, to, profile, 'switch-to': switchTo, sources, ready, publish };
  const entries = Object.entries(table);
  return new Map(
    entries.flatMap(([key, value]) => {
      if (value === undefined || value === false) return [];
      return [[key, value === true ? 'true' : tomlString(value)] as const];
    }),
  );
}

/** Quotes a string. JSON's escapes are TOML's, except for DEL, which TOML wants escaped. */
function tomlString(text: string): string {
  return JSON.stringify(text).replaceAll('\u007f', String.raw`\u007f`);
}

/**
 * Checks an edited text by reading it again: it must mean what was intended.
 *
 * @returns the text
 * @throws USAGE with the advice to edit by hand
 */
export function checkEdit(text: string, wanted: readonly Subscription[], before: ConfigFile, file: string): string {
  try {
    const after = parseConfig(text, file);
    if (isDeepStrictEqual(contents(after.values, after.subscriptions), contents(before.values, wanted))) return text;
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    throw byHand(file, error);
  }
  throw byHand(file);
}

function contents(values: ConfigFile['values'], subscriptions: readonly Subscription[]): unknown {
  const tables = subscriptions.map((subscription) => [subscription.name, entriesOf(subscription)] as const);
  return [new Map(Array.from(values, ([key, { written }]) => [key, written])), new Map(tables)];
}

function byHand(file: string, cause?: unknown): NarswarmError {
  return new NarswarmError(
    'USAGE',
    `the subscriptions of ${file} are not written as [subscriptions.NAME] tables, and only those can be changed by a command: edit the file by hand`,
    { ...(cause === undefined ? {} : { cause }), facts: { file } },
  );
}
