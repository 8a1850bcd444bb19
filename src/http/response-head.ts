/** Parses the heads of answers (RFC 9112) as curl, and so Nix, does. Pure. */

import { notHttp } from './failure.ts';
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

const NAME = /^[!#$%&'*+.^_`|~\w-]+$/;
// oxlint-disable-next-line no-control-regex -- these are the characters that a value must not have
const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/;

/**
 * Parses a status line and headers. Joins folded headers. Leaves out headers with a strange name or a control character:
 * no part reads them.
 *
 * @param text up to the empty line at its end
 * @throws AttemptFailure if it is malformed
 */
export function parseHead(text: string): Head {
  const [first = '', ...lines] = text.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
  const [, minor, status] = /^HTTP\/1\.([01])[ \t]+([1-9]\d\d)(?!\d)/.exec(first) ?? [];
  if (status === undefined) throw notHttp('it has no status line');
  const fields = new Map<string, string[]>();
  let isPlain = !hasBareLine(text);
  for (const line of unfold(lines.filter((one) => one !== ''))) {
    const colon = line.indexOf(':');
    if (colon === -1 || line.includes('\0')) throw notHttp('a header is malformed');
    const name = line.slice(0, colon).toLowerCase();
    if (!NAME.test(name) || CONTROL.test(line)) {
      isPlain = false;
      continue;
    }
    const value = line.slice(colon + 1).trim();
    const known = fields.get(name);
    if (known === undefined) fields.set(name, [value]);
    else known.push(value);
  }
  const headers: Record<string, string | string[]> = Object.create(null);
  for (const [name, values] of fields) headers[name] = values.length === 1 ? values[0]! : values;
  const connection = (fields.get('connection') ?? []).join(',').toLowerCase();
  const isKept = minor === '1' ? !/\bclose\b/.test(connection) : /\bkeep-alive\b/.test(connection);
  const isDoubtful = fields.has('transfer-encoding') && (fields.has('content-length') || minor === '0');
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

/** Returns true if a line ends without a carriage return. */
function hasBareLine(text: string): boolean {
  return /(?:^|[^\r])\n/.test(text);
}

/** Appends each line that begins with a blank to the line before it (RFC 9112, 5.2). */
function unfold(lines: readonly string[]): string[] {
  const whole: string[][] = [];
  for (const line of lines)
    if (/^[ \t]/.test(line) && whole.length > 0) whole.at(-1)!.push(line.trim());
    else whole.push([line]);
  return whole.map((parts) => parts.join(' '));
}

function listOf(value: string | string[] | undefined): string[] {
  return [value ?? []].flat().flatMap((text) => text.split(',').map((item) => item.trim()));
}
