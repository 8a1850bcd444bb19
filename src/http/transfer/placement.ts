/** Determines where the body of an answer is in the file, and how far the answer can be believed. */

import type { Answer } from './answer.ts';
import { type ContentRange, parseContentLength, parseContentRange } from './range.ts';

/** The place of an answer's body in the file. */
export interface Placement {
  readonly start: number;
  /** Exclusive. Undefined if only the end of the body shows its length. */
  readonly end: number | undefined;
  /** Size of the whole file, if the answer gives it. */
  readonly sizeBytes: number | undefined;
}

/**
 * Places the answer to a request with a Range. Servers answer such requests in ways that RFC 9110 does not allow: 200
 * with a part and its Content-Range (harmonia), or 206 with the whole file, with other offsets, or without offsets.
 * Accepts only consistent labels.
 *
 * @returns undefined if the answer does not fit the request. Without Range, the server may answer better
 */
export function placeRanged(
  response: Answer,
  wanted: { readonly position: number; readonly sizeBytes: number | undefined },
): Placement | undefined {
  if (response.statusCode !== 200 && response.statusCode !== 206) return undefined;
  // The offsets may be those of the decoded body.
  if (response.header('content-encoding') !== undefined) return undefined;
  const lengthBytes = parseContentLength(response.header('content-length'));
  const range = parseContentRange(response.header('content-range'));
  if (range !== undefined && isSound(range, lengthBytes, response) && covers(range, wanted)) {
    return { start: range.start, end: range.end, sizeBytes: range.sizeBytes };
  }
  // A server without ranges sends the whole file. Without a fitting length, the body may as well be the part.
  const isWhole = response.statusCode === 200 && lengthBytes !== undefined && lengthBytes === wanted.sizeBytes;
  return isWhole ? placeWhole(response) : undefined;
}

/** Places the answer to a request for the whole file. */
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
