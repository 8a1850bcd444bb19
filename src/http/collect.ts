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
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  await response.read((chunk) => {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) throw refuseLength(maxBytes);
    chunks.push(Buffer.from(chunk)); // a chunk is lent
  });
  return Buffer.concat(chunks);
}

function refuseLength(maxBytes: number): AttemptFailure {
  return new AttemptFailure(`the body is longer than ${maxBytes} bytes`, {
    code: 'SIZE_MISMATCH',
    retry: 'never',
    status: 200,
  });
}
