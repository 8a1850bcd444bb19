/** A download that survives its connections: what has arrived, what is missing, and one attempt at the rest. */

import { AttemptFailure } from './failure.ts';
import { formatRange, parseContentLength, parseContentRange } from './range.ts';
import type { Answer, TakeChunk } from './answer.ts';
import { type OpenUrl, rejectStatus } from './request.ts';

export interface DownloadOptions {
  /** Where to begin. Default 0. */
  readonly offset?: number;
  /** Size of the whole file, where it is known; any other is refused. */
  readonly sizeBytes?: number;
  /** Where to stop, exclusive. Default `sizeBytes`, or where the body ends. */
  readonly end?: number;
  /**
   * Takes each byte exactly once and in order. Its promise is awaited, which holds the server back; what it throws
   * ends the download and reaches the caller as it is. The chunk belongs to the sink.
   */
  readonly sink: (chunk: Uint8Array, offset: number) => void | Promise<void>;
  readonly signal?: AbortSignal;
  /** As of the client, for this call. */
  readonly retries?: number | undefined;
  /** True where somebody else can be asked for the rest: a stall ends the download. */
  readonly givesWay?: boolean;
  /** Called after each chunk with the bytes that it added. */
  readonly onProgress?: (bytes: number) => void;
}

/** State that outlives an attempt. */
export interface Transfer {
  /** The next byte that the sink is to have. */
  position: number;
  /** Exclusive; Infinity while nobody has said how long the file is. */
  end: number;
  /** Size of the whole file: told by the caller, or by the first answer that knew it. */
  sizeBytes: number | undefined;
  readonly sink: DownloadOptions['sink'];
  readonly onProgress: (bytes: number) => void;
}

/** Where an answer's body lies in the file. */
interface Placement {
  readonly start: number;
  /** True where the body has to end at the transfer's end; false where it may go on and is left there. */
  readonly isExact: boolean;
}

export function beginTransfer(options: DownloadOptions): Transfer {
  const { offset = 0, sizeBytes, end = Infinity, sink, onProgress = () => undefined } = options;
  return { position: offset, end: Math.min(end, sizeBytes ?? Infinity), sizeBytes, sink, onProgress };
}

/**
 * One attempt at everything that is missing; returns once all of it is delivered.
 * Throws {@link AttemptFailure}, with `transfer.position` saying how far it came; or what the sink threw.
 */
export async function continueTransfer(transfer: Transfer, open: OpenUrl): Promise<void> {
  if (transfer.position >= transfer.end) return;
  const response = await open(chooseHeaders(transfer));
  await deliverBody(transfer, response, placeBody(transfer, response));
}

function chooseHeaders({ position, end, sizeBytes }: Transfer): Record<string, string> {
  const isWhole = position === 0 && end === (sizeBytes ?? Infinity);
  return isWhole ? {} : { range: formatRange(position, end) };
}

function placeBody(transfer: Transfer, response: Answer): Placement {
  if (response.statusCode === 206) return placePart(transfer, response);
  if (response.statusCode !== 200) throw rejectStatus(response);
  // Also the answer of a server that knows no ranges: what is already delivered is read and dropped.
  learnSize(transfer, response, parseContentLength(response.header('content-length')));
  return { start: 0, isExact: transfer.end === (transfer.sizeBytes ?? Infinity) };
}

function placePart(transfer: Transfer, response: Answer): Placement {
  const header = response.header('content-range');
  const range = parseContentRange(header);
  // A server may send less than was asked for; the rest is asked for again.
  if (range === undefined || range.start !== transfer.position || range.end > transfer.end) {
    response.discard();
    const wanted = formatRange(transfer.position, transfer.end);
    throw new AttemptFailure(`asked for ${wanted}, the server sent Content-Range ${header ?? '(none)'}`, {
      code: 'HTTP_FAILED',
      retry: 'once',
      status: 206,
    });
  }
  learnSize(transfer, response, range.sizeBytes);
  return { start: range.start, isExact: true };
}

/** Holds the server to the size that is known; takes its word where none is. */
function learnSize(transfer: Transfer, response: Answer, sizeBytes: number | undefined): void {
  if (sizeBytes === undefined) return;
  if (transfer.sizeBytes === undefined) {
    transfer.sizeBytes = sizeBytes;
    transfer.end = Math.min(transfer.end, sizeBytes);
  }
  if (sizeBytes === transfer.sizeBytes) return;
  response.discard();
  throw refuseSize(`the server says ${sizeBytes} bytes, expected ${transfer.sizeBytes}`, response);
}

async function deliverBody(transfer: Transfer, response: Answer, { start, isExact }: Placement): Promise<void> {
  let chunkStart = start;
  const take = (chunk: Buffer): void | Promise<void> => {
    const chunkEnd = chunkStart + chunk.length;
    if (chunkEnd > transfer.end && isExact) throw refuseSize(`the body goes on after byte ${transfer.end}`, response);
    const from = Math.max(transfer.position, chunkStart) - chunkStart;
    const to = Math.min(transfer.end, chunkEnd) - chunkStart;
    chunkStart = chunkEnd;
    return to > from ? deliverChunk(transfer, chunk.subarray(from, to)) : undefined;
  };
  if (isExact) await response.read(take);
  else await readUntilEnough(transfer, response, take);
  if (transfer.end === Infinity || transfer.position >= transfer.end) return;
  throw new AttemptFailure(`the body ended at byte ${transfer.position} of ${transfer.end}`, {
    code: 'HTTP_TRUNCATED',
    retry: 'again',
    status: response.statusCode,
  });
}

/** Reads a body that goes on after what is wanted of it, and leaves it there. */
async function readUntilEnough(transfer: Transfer, response: Answer, take: TakeChunk): Promise<void> {
  const isEnough = (): boolean => transfer.position >= transfer.end;
  try {
    await response.read(async (chunk) => {
      await take(chunk);
      if (isEnough()) response.close();
    });
  } catch (error) {
    if (!isEnough()) throw error;
  }
}

function deliverChunk(transfer: Transfer, chunk: Uint8Array): void | Promise<void> {
  const taking = transfer.sink(chunk, transfer.position);
  transfer.position += chunk.length;
  if (taking === undefined) {
    transfer.onProgress(chunk.length);
    return undefined;
  }
  return taking.then(() => transfer.onProgress(chunk.length));
}

function refuseSize(reason: string, response: Answer): AttemptFailure {
  return new AttemptFailure(reason, { code: 'SIZE_MISMATCH', retry: 'never', status: response.statusCode });
}
