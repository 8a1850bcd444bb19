import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { inStore } from '../disk/store-error.ts';
import { NarswarmError } from '../errors.ts';
import { fileHashOf } from '../nix/hash.ts';
import { onDisk } from './disk-error.ts';
import type { SuitcaseNar } from './suitcase-nars.ts';

/** A chunk is read while the one before it is written. */
const CHUNK_BYTES = 1024 * 1024;

export interface CopyOptions {
  readonly signal: AbortSignal;
  /** Called with the number of bytes that were just written. */
  readonly onBytes: (bytes: number) => void;
}

/**
 * Copies a NAR into a partial file, and checks its SHA-256 on the way. Continues a partial file of an earlier run: its
 * bytes are read again and hashed. If they are wrong, the copy begins again.
 *
 * @param source path of the NAR in the file store
 * @param part path of the partial file. It is not synced
 * @throws STORE_CORRUPT if the NAR in the file store is damaged: then there is no partial file; STORE_FULL,
 *   STORE_UNWRITABLE; the signal's reason
 */
export async function copyNar(source: string, part: string, nar: SuitcaseNar, options: CopyOptions): Promise<void> {
  await using input = await inStore(open(source), source);
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  await using output = await onDisk(part, () => open(part, flags));
  const stats = await onDisk(part, () => output.stat());
  if (!stats.isFile()) {
    throw new NarswarmError('STORE_UNWRITABLE', `${part} is not a file: remove it, then run the same command again`, {
      facts: { path: part },
    });
  }
  const keptBytes = stats.size <= nar.sizeBytes ? stats.size : 0;
  if (await copyRest({ input, output, source, part }, nar, keptBytes, options)) return;
  if (keptBytes > 0 && (await copyRest({ input, output, source, part }, nar, 0, options))) return;
  await onDisk(part, () => rm(part, { force: true }));
  throw new NarswarmError(
    'STORE_CORRUPT',
    `the NAR of ${nar.storePath} in the file store is damaged: run narswarm verify --repair, then the same command again`,
    { facts: { path: source } },
  );
}

interface Files {
  readonly input: FileHandle;
  readonly output: FileHandle;
  readonly source: string;
  readonly part: string;
}

/** Copies the bytes after the first `keptBytes`. @returns false if the whole does not have its FileHash */
async function copyRest(
  { input, output, source, part }: Files,
  { fileHash, sizeBytes }: SuitcaseNar,
  keptBytes: number,
  { signal, onBytes }: CopyOptions,
): Promise<boolean> {
  const hash = createHash('sha256');
  const buffers = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)] as const;
  let writing: Promise<unknown> = Promise.resolve();
  if (keptBytes === 0) await onDisk(part, () => output.truncate(0));
  for (let at = 0, turn = 0; at < sizeBytes; turn++) {
    signal.throwIfAborted();
    const isKept = at < keptBytes;
    const wanted = Math.min(CHUNK_BYTES, (isKept ? keptBytes : sizeBytes) - at);
    const buffer = buffers[turn % 2 === 0 ? 0 : 1];
    const { bytesRead } = isKept
      ? await onDisk(part, () => output.read(buffer, 0, wanted, at))
      : await inStore(input.read(buffer, 0, wanted, at), source);
    if (bytesRead === 0) break; // it has become shorter
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    await writing;
    const from = at;
    if (!isKept) writing = onDisk(part, () => writeAll(output, chunk, from));
    writing.catch(() => undefined); // awaited with the next chunk
    at += bytesRead;
    onBytes(isKept ? 0 : bytesRead);
  }
  await writing;
  return fileHashOf(hash.digest()) === fileHash && (await onDisk(part, () => output.stat())).size === sizeBytes;
}

async function writeAll(output: FileHandle, chunk: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < chunk.length;)
    done += (await output.write(chunk, done, chunk.length - done, offset + done)).bytesWritten;
}
