/** Parses the heads of answers (RFC 9112) as curl, and so Nix, does. Pure. */

import { notHttp } from '../transfer/failure.ts';
import type { ReceivedHeaders } from './sender.ts';

/** The head of an answer. */
export interface Head {
  readonly statusCode: number;
  /** By name in lower case. A header that occurs several times has an array. */
  readonly headers: ReceivedHeaders;
  /**
   * False if the connection must not serve another request: the server closes it after this answer, or a proxy on the
   * way may see the end of this answer elsewhere.
   */
  readonly isKept: boolean;
}

/** How the body of an answer ends. */
export type Framing =
  | { readonly kind: 'length'; readonly lengthBytes: number }
  | { readonly kind: 'chunks' }
  | { readonly kind: 'close' };

/** A usual header: its value has no control characters but tabs. Takes time in proportion to the line. */
// oxlint-disable-next-line no-control-regex -- these are the characters that a value must not have
const HEADER = /^([!#$%&'*+.^_`|~\w-]+):([^\0-\x08\x0a-\x1f\x7f]*)$/;

/**
 * Parses a status line and headers. Joins folded headers. Leaves out headers with a strange name or a control character:
 * no part reads them.
 *
 * @param text up to the empty line at its end
 * @throws AttemptFailure if it is malformed
 */
export function parseHead(text: string): Head {
  const usual = text.split('\r\n');
  const isBare = usual.some((line) => line.includes('\n'));
  const [first = '', ...lines] = isBare ? text.split(/\r?\n/) : usual;
  const [, minor, status] = /^HTTP\/1\.([01])[ \t]+([1-9]\d\d)(?!\d)/.exec(first) ?? [];
  if (status === undefined) throw notHttp('it has no status line');
  const headers: Record<string, string | string[]> = Object.create(null);
  let isPlain = !isBare;
  for (const line of unfold(lines)) {
    if (line === '') continue;
    const [, name, value] = HEADER.exec(line) ?? [];
    if (name === undefined || value === undefined) {
      if (!line.includes(':') || line.includes('\0')) throw notHttp('a header is malformed');
      isPlain = false;
      continue;
    }
    const key = name.toLowerCase();
    const known = headers[key];
    if (known === undefined) headers[key] = value.trim();
    else if (typeof known === 'string') headers[key] = [known, value.trim()];
    else known.push(value.trim());
  }
  const connection = [headers['connection'] ?? []].flat().join(',').toLowerCase();
  const isKept = minor === '1' ? !/\bclose\b/.test(connection) : /\bkeep-alive\b/.test(connection);
  const isDoubtful = 'transfer-encoding' in headers && ('content-length' in headers || minor === '0');
  return { statusCode: Number(status), headers, isKept: isKept && isPlain && !isDoubtful };
}

/** Returns the end of the body of an answer that has one. @throws AttemptFailure if its headers contradict themselves */
export function framingOf(headers: ReceivedHeaders): Framing {
  const encodings = listOf(headers['transfer-encoding']).filter((name) => name.toLowerCase() !== 'identity');
  if (encodings.some((name) => name.toLowerCase() !== 'chunked')) throw notHttp('its transfer encoding is not chunked');
  if (encodings.length > 0) return { kind: 'chunks' };
  const [length, ...others] = listOf(headers['content-length']).map((text) => text.replace(/^0+(?=\d)/, ''));
  if (length === undefined) return { kind: 'close' };
  if (others.some((other) => other !== length) || !/^\d{1,15}$/.test(length)) throw notHttp('its length is malformed');
  return { kind: 'length', lengthBytes: Number(length) };
}

/** Appends each line that begins with a blank to the line before it (RFC 9112, 5.2). */
function unfold(lines: readonly string[]): readonly string[] {
  if (!lines.some(isFolded)) return lines; // nearly always
  const whole: string[][] = [];
  for (const line of lines)
    if (isFolded(line) && whole.length > 0) whole.at(-1)!.push(line.trim());
    else whole.push([line]);
  return whole.map((parts) => parts.join(' '));
}

function isFolded(line: string): boolean {
  return line.startsWith(' ') || line.startsWith('\t');
}

function listOf(value: string | string[] | undefined): string[] {
  if (value === undefined) return [];
  if (typeof value === 'string' && !value.includes(',')) return [value]; // nearly always
  return [value].flat().flatMap((text) => text.split(',').map((item) => item.trim()));
}
