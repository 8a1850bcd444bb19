/** A download that continues over several connections: its progress, and one attempt at the rest. */

import type { Answer, TakeChunk } from './answer.ts';
import { decodeAnswer } from './decoded-answer.ts';
import { AttemptFailure } from './failure.ts';
import type { CallOptions } from '../options.ts';
import { type Placement, placeRanged, placeWhole } from './placement.ts';
import { formatRange } from './range.ts';
import { type OpenUrl, rejectAnswer } from './request.ts';

export interface DownloadOptions extends CallOptions {
  /** First byte to fetch. Default 0. */
  readonly offset?: number;
  /** Size of the whole file, if known. Any other size is refused. */
  readonly sizeBytes?: number;
  /** Limit for files of unknown size: a longer file is refused with SIZE_MISMATCH. Default: none. */
  readonly maxBytes?: number | undefined;
  /** End of the bytes to fetch, exclusive. Default `sizeBytes`, or the end of the body. */
  readonly end?: number;
  /**
   * Takes each byte exactly once and in order. Its promise is awaited, which holds the server back. Its errors end the
   * download and reach the caller unchanged. The chunk is lent, as for {@link TakeChunk}.
   */
  readonly sink: (chunk: Uint8Array, offset: number) => void | Promise<void>;
  /** Called after each chunk with its length. */
  readonly onProgress?: (bytes: number) => void;
}

/** Statuses of a server, or of the proxy before it, that is busy. */
const BUSY = new Set([408, 425, 429, 502, 503, 504]);

/** The support of a server for Range, as far as known. Remembered while the client lives. */
export interface RangeSupport {
  /** True once the server has failed to answer a Range, then sent the whole file without it. */
  isRangeless: boolean;
}

/** State that outlives an attempt. */
export interface Transfer {
  /** The next byte for the sink. */
  position: number;
  /** Exclusive; Infinity until the length of the file is known. */
  end: number;
  /** Size of the whole file, given by the caller or by the first answer with a size. */
  sizeBytes: number | undefined;
  readonly maxBytes: number;
  readonly sink: DownloadOptions['sink'];
  readonly onProgress: (bytes: number) => void;
}

export function beginTransfer(options: DownloadOptions): Transfer {
  const { offset = 0, sizeBytes, maxBytes = Infinity, end = Infinity, sink, onProgress = () => undefined } = options;
  return { position: offset, end: Math.min(end, sizeBytes ?? Infinity), sizeBytes, maxBytes, sink, onProgress };
}

/**
 * Makes one attempt at all missing bytes. Returns when they are delivered. An answer that does not fit a Range is not a
 * failure: the server is asked again at once without Range, and the bytes that are already here are skipped.
 *
 * @param isLast true if the next failure ends the download. Then asks without Range, which may be the cause of the
 *   failures
 * @throws {@link AttemptFailure}, with the progress in `transfer.position`; or an error of the sink
 */
export async function continueTransfer(
  transfer: Transfer,
  open: OpenUrl,
  { support, isLast }: { readonly support: RangeSupport; readonly isLast: boolean },
): Promise<void> {
  const { position, end, sizeBytes } = transfer;
  if (position >= end) return;
  const isWhole = position === 0 && end === (sizeBytes ?? Infinity);
  const mayAsk = !isWhole && !support.isRangeless;
  if (mayAsk && !isLast && (await continueByRange(transfer, open, support))) return;
  const response = await open({});
  if (response.statusCode !== 200) throw rejectAnswer(response);
  if (mayAsk) support.isRangeless = true;
  const body = decodeAnswer(response, sizeBytes);
  await deliverBody(transfer, body, placeWhole(body));
}

/** @returns false if the server's answer does not fit the Range */
async function continueByRange(transfer: Transfer, open: OpenUrl, support: RangeSupport): Promise<boolean> {
  try {
    const response = await open({ range: formatRange(transfer.position, transfer.end) });
    const placement = placeRanged(response, transfer);
    if (placement === undefined) {
      response.discard();
      return false;
    }
    if (response.statusCode === 200 && placement.end === placement.sizeBytes && placement.start === 0)
      support.isRangeless = true; // it sent the whole file, and will do so again
    await deliverBody(transfer, response, placement);
    return true;
  } catch (error) {
    if (error instanceof AttemptFailure && !isBusy(error)) return false;
    throw error;
  }
}

/** Returns true for a failure that has nothing to do with Range: the server is overloaded, or the connection broke. */
function isBusy({ details: { code, status } }: AttemptFailure): boolean {
  return code === 'HTTP_TRUNCATED' || code === 'HTTP_STALLED' || status === undefined || BUSY.has(status);
}

/** Checks the answer against the known size. Takes the size of the answer if none is known. */
function learnSize(transfer: Transfer, response: Answer, { sizeBytes }: Placement): void {
  if (sizeBytes === undefined) return;
  if (transfer.sizeBytes === undefined && sizeBytes >= transfer.position) {
    transfer.sizeBytes = sizeBytes;
    transfer.end = Math.min(transfer.end, sizeBytes);
  }
  const expected = transfer.sizeBytes ?? `more than ${transfer.position}`;
  if (sizeBytes === transfer.sizeBytes && sizeBytes <= transfer.maxBytes) return;
  response.discard();
  const reason = sizeBytes === transfer.sizeBytes ? `at most ${transfer.maxBytes} are allowed` : `expected ${expected}`;
  throw refuseSize(`it has ${sizeBytes} bytes, ${reason}`, response);
}

async function deliverBody(transfer: Transfer, response: Answer, placement: Placement): Promise<void> {
  learnSize(transfer, response, placement);
  const stop = Math.min(transfer.end, placement.end ?? transfer.sizeBytes ?? Infinity);
  // If the body must end at the last wanted byte, a longer body shows an error there.
  const isExact = transfer.end >= (placement.end ?? transfer.sizeBytes ?? Infinity);
  let chunkStart = placement.start;
  const take = (chunk: Buffer): void | Promise<void> => {
    const chunkEnd = chunkStart + chunk.length;
    if (chunkEnd > stop && isExact) throw refuseSize(`the body continues after byte ${stop}`, response);
    if (chunkEnd > transfer.maxBytes) throw refuseSize(`the body is longer than ${transfer.maxBytes} bytes`, response);
    const from = Math.max(transfer.position, chunkStart) - chunkStart;
    const to = Math.min(stop, chunkEnd) - chunkStart;
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

/** Reads a body up to the last wanted byte, and leaves the rest. */
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
