import { styleText } from 'node:util';
import { inOneLine } from '../../nix/quote.ts';
import { withoutPasswords } from '../../redact.ts';

/** A part of a line, and how a terminal with colours shows it. */
export interface Span {
  readonly text: string;
  readonly style?: 'bold' | 'dim' | 'cyan' | 'green';
}

/** One line of a terminal. */
export type Line = readonly Span[];

/**
 * Writes a line for a terminal, in at most `columns` characters. Text from strangers cannot control the terminal.
 *
 * Characters count as one column each. Wide ones only occur in names that a user has chosen; the terminal cuts the
 * rest.
 *
 * @param stream decides on colours, with NO_COLOR and FORCE_COLOR
 */
export function writeLine(line: Line, columns: number, stream: NodeJS.WritableStream): string {
  let left = columns;
  let written = '';
  for (const { text, style } of line) {
    const shown = Array.from(inOneLine(withoutPasswords(text)));
    const isCut = shown.length > left;
    const part = isCut ? `${shown.slice(0, Math.max(0, left - 1)).join('')}${left > 0 ? '…' : ''}` : shown.join('');
    written += style === undefined || part === '' ? part : styleText(style, part, { stream });
    left -= shown.length;
    if (isCut) break;
  }
  return written;
}

/** Number of columns of a line. */
export function lengthOf(line: Line): number {
  return line.reduce((sum, { text }) => sum + Array.from(text).length, 0);
}
