/** A small body, whole in memory. */

import { AttemptFailure } from './failure.ts';
import { parseContentLength } from './range.ts';
import { discardBody, readBody, readHeader, type Response } from './request.ts';

/** Reads the body of a 200. Throws {@link AttemptFailure} with SIZE_MISMATCH as soon as it exceeds `maxBytes`. */
export async function collectBody(response: Response, maxBytes: number): Promise<Uint8Array> {
  if ((parseContentLength(readHeader(response, 'content-length')) ?? 0) > maxBytes) {
    discardBody(response);
    throw refuseLength(maxBytes);
  }
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of readBody(response)) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) throw refuseLength(maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function refuseLength(maxBytes: number): AttemptFailure {
  return new AttemptFailure(`the body is longer than ${maxBytes} bytes`, {
    code: 'SIZE_MISMATCH',
    retry: 'never',
    status: 200,
  });
}
