/** A file of a binary cache in a folder (Nix: `file://`), as if a server sent it: so it is resumed, bounded and blamed alike. */

import { type FileHandle, open } from 'node:fs/promises';
import { constants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Answer, TakeChunk } from './answer.ts';
import { AttemptFailure } from './failure.ts';

const CHUNK_BYTES = 256 * 1024;
/** The file, or a folder on the way to it, is not there. */
const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG', 'EISDIR']);
/** Failures of the disk or the network behind a mount that may pass. */
const PASSING = new Set(['EIO', 'ESTALE', 'ETIMEDOUT', 'EAGAIN', 'EBUSY', 'EMFILE', 'ENFILE']);

/**
 * Opens the file that a `file:` URL names; links are followed, as Nix does.
 *
 * @param headers of them only `range` counts, in the form `bytes=a-b` or `bytes=a-`
 * @throws AttemptFailure: HTTP_NOT_FOUND where there is no regular file; HTTP_FAILED where it cannot be read
 */
export async function openFile(target: URL, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const path = fileURLToPath(target);
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a pipe without a writer would hold it up
    const stats = await handle.stat();
    if (!stats.isFile()) throw new AttemptFailure(`it is no file`, { code: 'HTTP_NOT_FOUND', retry: 'never' });
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
        const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, this.#end - at));
        // oxlint-disable-next-line no-await-in-loop -- one chunk after the other
        const { bytesRead } = await this.#handle.read(chunk, 0, chunk.length, at).catch((error: unknown) => {
          throw explain(error);
        });
        if (bytesRead === 0) {
          throw new AttemptFailure('it has become shorter', { code: 'HTTP_TRUNCATED', retry: 'once' });
        }
        at += bytesRead;
        // oxlint-disable-next-line no-await-in-loop -- see above
        await take(chunk.subarray(0, bytesRead));
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
    this.#handle.close().catch(() => undefined); // it was only read
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
