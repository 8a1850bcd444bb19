/** Breaks lines at spaces, so that they fit into a terminal. */
import type { PublisherAddress } from '../../index/address.ts';
import type { Output } from '../output.ts';

/**
 * Breaks each line that is too long. A word that is longer than a line stays whole, so that a path can be copied.
 *
 * @param columns width in characters. Undefined: nothing is broken
 * @param hang number of spaces before the further lines of a line
 */
export function fitted(text: string, columns: number | undefined, hang: (line: string) => number): string {
  if (columns === undefined) return text;
  return text
    .split('\n')
    .flatMap((line) => broken(line, columns, { hang: hang(line), end: '' }))
    .join('\n');
}

const WORD = String.raw`(?:'[^']*'|"(?:[^"\\]|\\.)*"|\$\([^)]*\)|\\.|[^\s'"\\])+`;
/** Matches a word of a command line with what is quoted in it, or an option with its value, and the spaces before it. */
const SHELL_WORD = new RegExp(String.raw`\s*(?:--[\w-]+\s+(?![-&|;#])${WORD}|${WORD})`, 'g');

/**
 * Breaks a command line that is too long, with a backslash at the end of each line but the last: it can still be pasted.
 * Nothing in quotes is broken.
 *
 * @param columns width in characters
 */
export function fittedCommand(line: string, columns: number, hang: number): string {
  return broken(line, columns, { hang, end: ' \\', words: SHELL_WORD }).join('\n');
}

/** Columns of the labels of `status`. */
const LABELS = 12;
/** Matches a line that people paste into a shell. */
const COMMAND_LINE = /^ {2}compare /;

/** Returns lines with a label each, as `status` prints them, for people: with short names of publishers, and in the width of the terminal. */
export function fittedFacts(
  { forPeople, columns }: Pick<Output, 'forPeople' | 'columns'>,
  lines: Iterable<string>,
  others: readonly PublisherAddress[] = [],
): string {
  return Array.from(lines, (line) =>
    columns !== undefined && COMMAND_LINE.test(line)
      ? fittedCommand(line, columns, LABELS)
      : fitted(forPeople(line, others), columns, (text) => (text.startsWith(' ') ? LABELS : 4)),
  ).join('\n');
}

function broken(
  line: string,
  columns: number,
  { hang, end, words = /\s*\S+/g }: { readonly hang: number; readonly end: string; readonly words?: RegExp },
): string[] {
  if (line.length <= columns) return [line];
  const lines: string[] = [];
  let current = '';
  // A label in front keeps its first word: the line would be no shorter without it.
  for (const word of line.match(words) ?? []) {
    const isFirst = current.trim() === '' || current.length < hang;
    if (!isFirst && current.length + word.length + end.length > columns) {
      lines.push(`${current}${end}`);
      current = `${' '.repeat(hang)}${word.trimStart()}`;
    } else current += word;
  }
  return [...lines, current];
}
