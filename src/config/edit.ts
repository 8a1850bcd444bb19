/** Adds tables of subscriptions to the text of a config file and takes them out, and leaves every other byte alone. */
import { isDeepStrictEqual } from 'node:util';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { outline, samePath, type Statement } from './outline.ts';
import { parseConfig, type ConfigFile } from './schema.ts';

const COMMENT = /^[ \t]*#/;
const BLANK = /^[ \t\r]*$/;

/**
 * The text with one more table at its end.
 *
 * @param file what complaints call it
 * @throws USAGE where the name is taken, or the file is written in a way that takes no more tables
 */
export function addSubscription(text: string, subscription: Subscription, file: string): string {
  const before = parseConfig(text, file);
  const taken = before.subscriptions.find(({ name }) => name === subscription.name);
  if (taken !== undefined)
    throw new NarswarmError('USAGE', `${taken.where} has a subscription ${taken.name}: replace it with --replace`);
  const lineEnd = text.includes('\r\n') ? '\r\n' : '\n';
  const start = text === '' || text.endsWith('\n') ? text : `${text}${lineEnd}`;
  const added = `${start}${start === '' ? '' : lineEnd}${tableOf(subscription).join(lineEnd)}${lineEnd}`;
  return checkEdit(added, [...before.subscriptions, subscription], before, file);
}

/**
 * The text without a table: also without the comments directly above it and those directly below its last line, unless
 * these stand directly above what follows.
 *
 * @throws USAGE where the table is written in a way that cannot be cut out
 */
export function removeSubscription(text: string, name: string, file: string): string {
  const before = parseConfig(text, file);
  const left = before.subscriptions.filter((subscription) => subscription.name !== name);
  const { statements } = outline(text);
  const first = statements.findIndex(({ kind, path }) => kind === 'table' && samePath(path, ['subscriptions', name]));
  if (first === -1) throw byHand(file);
  const next = statements.findIndex(({ kind }, index) => index > first && kind === 'table');
  return checkEdit(cut(text, statements, first, next === -1 ? statements.length : next), left, before, file);
}

/** Cuts statements out, from `first` up to and without `next`, by whole lines. */
function cut(text: string, statements: readonly Statement[], first: number, next: number): string {
  const lines = text.split(/(?<=\n)/);
  const lineAt = (offset: number): number => text.slice(0, offset).split('\n').length - 1;
  const follower = statements[next];
  let from = lineAt(statements[first]?.start ?? 0);
  let to = lineAt(statements[next - 1]?.end ?? 0) + 1;
  // The end of a text over several lines may look like a comment.
  const above = first === 0 ? 0 : lineAt(statements[first - 1]?.end ?? 0) + 1;
  while (from > above && COMMENT.test(lines[from - 1] ?? '')) from--;
  let below = to;
  while (COMMENT.test(lines[below] ?? '')) below++;
  const belongsToNext = follower !== undefined && below === lineAt(follower.start);
  if (!belongsToNext) to = below;
  // One blank line goes, so that tables stay as far apart as they were: the one below, or at the end the one above.
  if (to < lines.length && isBlank(lines[to]) && (from === 0 || isBlank(lines[from - 1]))) to++;
  else if (to >= lines.length && from > 0 && isBlank(lines[from - 1])) from--;
  return [...lines.slice(0, from), ...lines.slice(to)].join('');
}

function isBlank(line: string | undefined): boolean {
  return line !== undefined && BLANK.test(line.replace('\n', ''));
}

function tableOf({ name, source, file, import: imports, to, sources, publish }: Subscription): string[] {
  const key = /^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name);
  return [
    `[subscriptions.${key}]`,
    `source = ${tomlString(source)}`,
    ...(file === undefined ? [] : [`file = ${tomlString(file)}`]),
    ...(imports ? ['import = true'] : []),
    ...(to === undefined ? [] : [`to = ${tomlString(to)}`]),
    ...(sources ? ['sources = true'] : []),
    ...(publish ? ['publish = true'] : []),
  ];
}

/** JSON's escapes are TOML's, but for DEL, which TOML wants escaped. */
function tomlString(text: string): string {
  return JSON.stringify(text).replaceAll('\u007f', String.raw`\u007f`);
}

/**
 * Nothing is written that was not read again and found to be what was meant.
 *
 * @returns the text
 * @throws USAGE that asks to edit by hand
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
  const tables = subscriptions.map(({ name, source, file, import: imports, to, sources, publish }) => {
    return [name, { source, file, imports, to, sources, publish }] as const;
  });
  return [new Map(Array.from(values, ([key, { written }]) => [key, written])), new Map(tables)];
}

function byHand(file: string, cause?: unknown): NarswarmError {
  return new NarswarmError(
    'USAGE',
    `the subscriptions of ${file} are not written as [subscriptions.NAME] tables, and only those can be changed by a command: edit the file by hand`,
    { ...(cause === undefined ? {} : { cause }), facts: { file } },
  );
}
