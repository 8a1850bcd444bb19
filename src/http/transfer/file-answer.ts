/**
 * Reads a file of a binary cache in a folder (Nix: `file://`) as if a server sent it. So resuming, limits and blame
 * work in the same way.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { constants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { giveBack, takeBuffer } from '../../bytes/lent-buffers.ts';
import type { Answer, TakeChunk } from './answer.ts';
import { AttemptFailure } from './failure.ts';

const CHUNK_BYTES = 256 * 1024;
/** Error codes if the file, or a folder on the way to it, does not exist. */
const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG', 'EISDIR']);
/** Error codes of the disk, or of the network behind a mount, that may pass. */
const PASSING = new Set(['EIO', 'ESTALE', 'ETIMEDOUT', 'EAGAIN', 'EBUSY', 'EMFILE', 'ENFILE']);

/**
 * Opens the file of a `file:` URL. Follows links, as Nix does.
 *
 * @param headers only `range` counts, as `bytes=a-b` or `bytes=a-`
 * @throws AttemptFailure: HTTP_NOT_FOUND if it is not a regular file; HTTP_FAILED if it cannot be read
 */
export async function openFile(target: URL, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const path = fileURLToPath(target);
  let handle: FileHandle | undefined;
  try {
    // without O_NONBLOCK, a pipe without a writer would block
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (!stats.isFile()) throw new AttemptFailure(`it is not a file`, { code: 'HTTP_NOT_FOUND', retry: 'never' });
    return new FileAnswer(handle, stats.size, headers['range']);
  } catch (error) {
    await handle?.close();
    throw explain(error);
  }
}

class FileAnswer implements Answer {
  readonly statusCode: number;
  readonly #handle: FileHandle;
  readonly #start: number;
  readonly #end: number;
  readonly #headers: Readonly<Record<string, string>>;
  #isClosed = false;

  constructor(handle: FileHandle, sizeBytes: number, range: string | undefined) {
    const [, from, to = ''] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
    const start = Number(from ?? 0);
    const end = to === '' ? sizeBytes : Math.min(sizeBytes, Number(to) + 1);
    const isPart = from !== undefined && start < end;
    this.#handle = handle;
    this.#start = isPart ? start : 0;
    this.#end = isPart ? end : sizeBytes;
    this.statusCode = isPart ? 206 : 200;
    this.#headers = {
      'content-length': String(this.#end - this.#start),
      ...(isPart ? { 'content-range': `bytes ${start}-${end - 1}/${sizeBytes}` } : {}),
    };
  }

  header(name: string): string | undefined {
    return this.#headers[name];
  }

  async read(take: TakeChunk): Promise<void> {
    try {
      for (let at = this.#start; at < this.#end && !this.#isClosed;) {
        const chunk = takeBuffer(CHUNK_BYTES);
        try {
          const wantedBytes = Math.min(CHUNK_BYTES, this.#end - at);
          // oxlint-disable-next-line no-await-in-loop -- one chunk after the other
          const { bytesRead } = await this.#handle.read(chunk, 0, wantedBytes, at).catch((error: unknown) => {
            throw explain(error);
          });
          if (bytesRead === 0) {
            throw new AttemptFailure('it has become shorter', { code: 'HTTP_TRUNCATED', retry: 'once' });
          }
          at += bytesRead;
          // oxlint-disable-next-line no-await-in-loop -- see above
          await take(chunk.subarray(0, bytesRead));
        } finally {
          giveBack(chunk);
        }
      }
    } finally {
      this.close();
    }
  }

  discard(): void {
    this.close();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handle.close().catch(() => undefined); // the file was only read
  }
}

function explain(error: unknown): unknown {
  if (error instanceof AttemptFailure || !(error instanceof Error) || !('code' in error)) return error;
  const code = String(error.code);
  if (ABSENT.has(code)) return new AttemptFailure('there is no such file', { code: 'HTTP_NOT_FOUND', retry: 'never' });
  return new AttemptFailure(`it cannot be read (${code})`, {
    code: 'HTTP_FAILED',
    retry: PASSING.has(code) ? 'again' : 'never',
    cause: error,
  });
}
