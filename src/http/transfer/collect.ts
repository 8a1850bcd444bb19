/** Reads a small body into memory. */

import { AttemptFailure } from './failure.ts';
import { parseContentLength } from './range.ts';
import type { Answer } from './answer.ts';
import { rejectAnswer } from './request.ts';

/**
 * Reads the body of a 200; refuses any other answer. Throws {@link AttemptFailure} with SIZE_MISMATCH as soon as it
 * exceeds `maxBytes`.
 */
export async function collectBody(response: Answer, maxBytes: number): Promise<Uint8Array> {
  if (response.statusCode !== 200) throw rejectAnswer(response);
  if ((parseContentLength(response.header('content-length')) ?? 0) > maxBytes) {
    response.discard();
    throw refuseLength(maxBytes);
  }
  // One buffer, which doubles: chunks may have one byte each, and an object for each takes 170.
  let body = Buffer.alloc(0);
  let sizeBytes = 0;
  await response.read((chunk) => {
    const end = sizeBytes + chunk.length;
    if (end > maxBytes) throw refuseLength(maxBytes);
    if (end > body.length) {
      const longer = Buffer.allocUnsafe(Math.max(end, Math.min(2 * body.length, maxBytes)));
      body.copy(longer, 0, 0, sizeBytes);
      body = longer;
    }
    chunk.copy(body, sizeBytes); // a chunk is lent
    sizeBytes = end;
  });
  return sizeBytes === body.length ? body : Buffer.from(body.subarray(0, sizeBytes));
}

function refuseLength(maxBytes: number): AttemptFailure {
  return new AttemptFailure(`the body is longer than ${maxBytes} bytes`, {
    code: 'SIZE_MISMATCH',
    retry: 'never',
    status: 200,
  });
}
