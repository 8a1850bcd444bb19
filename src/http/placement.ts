/** Where the body of an answer lies in the file, as far as the answer can be believed. */

import type { Answer } from './answer.ts';
import { type ContentRange, parseContentLength, parseContentRange } from './range.ts';

/** Where an answer's body lies in the file. */
export interface Placement {
  readonly start: number;
  /** Exclusive; undefined if the body says by its end how long it is. */
  readonly end: number | undefined;
  /** Size of the whole file, where the answer says it. */
  readonly sizeBytes: number | undefined;
}

/**
 * Places the answer to a request with a Range. Servers answer those in ways that RFC 9110 does not have: 200 with a part and
 * its Content-Range (harmonia), 206 with everything, with other offsets, or without saying which. Only what is labelled
 * soundly is taken.
 *
 * @returns undefined if the answer does not fit the request: asked without Range, the server may do better
 */
export function placeRanged(
  response: Answer,
  wanted: { readonly position: number; readonly sizeBytes: number | undefined },
): Placement | undefined {
  if (response.statusCode !== 200 && response.statusCode !== 206) return undefined;
  if (response.header('content-encoding') !== undefined) return undefined; // are the offsets those of what it decodes to?
  const lengthBytes = parseContentLength(response.header('content-length'));
  const range = parseContentRange(response.header('content-range'));
  if (range !== undefined && isSound(range, lengthBytes, response) && covers(range, wanted)) {
    return { start: range.start, end: range.end, sizeBytes: range.sizeBytes };
  }
  // A server that has no ranges sends everything. Without a length that fits, it may as well be the part.
  const isWhole = response.statusCode === 200 && lengthBytes !== undefined && lengthBytes === wanted.sizeBytes;
  return isWhole ? placeWhole(response) : undefined;
}

/** Places the answer to a request for everything. */
export function placeWhole(response: Answer): Placement {
  const sizeBytes = parseContentLength(response.header('content-length'));
  return { start: 0, end: sizeBytes, sizeBytes };
}

function isSound(range: ContentRange, lengthBytes: number | undefined, response: Answer): boolean {
  if (/^multipart\//i.test(response.header('content-type') ?? '')) return false;
  if (lengthBytes === undefined) return response.statusCode === 206;
  return lengthBytes === range.end - range.start;
}

function covers(
  range: ContentRange,
  { position, sizeBytes }: { position: number; sizeBytes: number | undefined },
): boolean {
  const isOfFile = range.sizeBytes === undefined || sizeBytes === undefined || range.sizeBytes === sizeBytes;
  return isOfFile && range.start <= position && position < range.end;
}
