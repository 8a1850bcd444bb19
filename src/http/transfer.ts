/** A download that survives its connections: what has arrived, what is missing, and one attempt at the rest. */

import type { Answer, TakeChunk } from './answer.ts';
import { decodeAnswer } from './decoded-answer.ts';
import { AttemptFailure } from './failure.ts';
import type { CallOptions } from './options.ts';
import { type Placement, placeRanged, placeWhole } from './placement.ts';
import { formatRange } from './range.ts';
import { type OpenUrl, rejectAnswer } from './request.ts';

export interface DownloadOptions extends CallOptions {
  /** Where to begin. Default 0. */
  readonly offset?: number;
  /** Size of the whole file, where it is known; any other is refused. */
  readonly sizeBytes?: number;
  /** A file that turns out longer is refused with SIZE_MISMATCH, for those of unknown size. Default: no bound. */
  readonly maxBytes?: number | undefined;
  /** Where to stop, exclusive. Default `sizeBytes`, or where the body ends. */
  readonly end?: number;
  /**
   * Takes each byte exactly once and in order. Its promise is awaited, which holds the server back; what it throws
   * ends the download and reaches the caller as it is. The chunk belongs to the sink.
   */
  readonly sink: (chunk: Uint8Array, offset: number) => void | Promise<void>;
  /** Called after each chunk with the bytes that it added. */
  readonly onProgress?: (bytes: number) => void;
}

/** Statuses by which a server, or the proxy before it, says that it cannot just now. */
const BUSY = new Set([408, 425, 429, 502, 503, 504]);

/** Whether a server answers Range, for as long as the client lives. */
export interface RangeSupport {
  /** True once the server has answered a Range with something else and then sent everything without it. */
  isRangeless: boolean;
}

/** State that outlives an attempt. */
export interface Transfer {
  /** The next byte that the sink is to have. */
  position: number;
  /** Exclusive; Infinity while nobody has said how long the file is. */
  end: number;
  /** Size of the whole file: told by the caller, or by the first answer that knew it. */
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
 * One attempt at everything that is missing; returns once all of it is delivered. An answer that does not fit a Range is
 * no failure: the server is asked again at once without it, and what is held already is read past.
 *
 * @param isLast whether the next failure ends the download: then no Range is asked for, which may be what it fails of
 * @throws {@link AttemptFailure}, with `transfer.position` saying how far it came; or what the sink threw
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
      support.isRangeless = true; // it has sent everything, and will so the next time
    await deliverBody(transfer, response, placement);
    return true;
  } catch (error) {
    if (error instanceof AttemptFailure && !isBusy(error)) return false;
    throw error;
  }
}

/** True for a failure that says nothing of the Range: the server is overloaded, or the connection broke. */
function isBusy({ details: { code, status } }: AttemptFailure): boolean {
  return code === 'HTTP_TRUNCATED' || code === 'HTTP_STALLED' || status === undefined || BUSY.has(status);
}

/** Holds the server to the size that is known; takes its word where none is. */
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
  throw refuseSize(`the server says ${sizeBytes} bytes, ${reason}`, response);
}

async function deliverBody(transfer: Transfer, response: Answer, placement: Placement): Promise<void> {
  learnSize(transfer, response, placement);
  const stop = Math.min(transfer.end, placement.end ?? transfer.sizeBytes ?? Infinity);
  // A body that has to end where the wanted bytes do shows there whether it is what it says.
  const isExact = transfer.end >= (placement.end ?? transfer.sizeBytes ?? Infinity);
  let chunkStart = placement.start;
  const take = (chunk: Buffer): void | Promise<void> => {
    const chunkEnd = chunkStart + chunk.length;
    if (chunkEnd > stop && isExact) throw refuseSize(`the body goes on after byte ${stop}`, response);
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
