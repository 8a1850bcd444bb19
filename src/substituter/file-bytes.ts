import { fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { OfferedFile } from '../exchange/answers/offer.ts';
import { chunkBytes, newChunk, type TakeChunk } from './answer-buffers.ts';

/** Bytes `[start, end]`. */
export interface Part {
  readonly start: number;
  readonly end: number;
}

/** Yields a part of a NAR that is read from the Nix store. @throws if the path has changed */
export async function* offeredBytes(
  file: OfferedFile,
  take: TakeChunk,
  { start, end }: Part,
): AsyncGenerator<Buffer, void> {
  for (let at = start; at <= end;) {
    const chunk = take(Math.min(chunkBytes(), end + 1 - at));
    await file.read(chunk, at);
    yield chunk;
    at += chunk.length;
  }
}

/**
 * Yields a file, or the part `[start, end]` of it.
 *
 * @param take gives the buffer of each chunk
 * @param mtimeMs when the file last changed, in whole milliseconds. Default: when it did so before the first chunk
 * @throws Error if the file ends before that part, or changes meanwhile
 */
export async function* fileBytes(
  path: string,
  take: TakeChunk = newChunk,
  part?: Part,
  mtimeMs?: number,
): AsyncGenerator<Buffer, void> {
  await using file = await open(path);
  const first = fstatSync(file.fd);
  const changedAtMs = mtimeMs ?? Math.floor(first.mtimeMs);
  const { start, end } = part ?? { start: 0, end: first.size - 1 };
  for (let at = start; at <= end;) {
    const length = Math.min(chunkBytes(), end + 1 - at);
    const chunk = take(length);
    const { bytesRead } = await file.read(chunk, 0, length, at);
    if (bytesRead < length) throw new Error(`${path} was cut short`);
    if (Math.floor(fstatSync(file.fd).mtimeMs) !== changedAtMs) throw new Error(`${path} has changed`);
    yield chunk;
    at += length;
  }
}
