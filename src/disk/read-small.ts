import { closeSync, constants, fstatSync, openSync, read } from 'node:fs';
import { promisify } from 'node:util';

/** Error codes of an open if there is no regular file. A link that is not followed gives ELOOP. */
const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO']);

const readAt = promisify(read);

/**
 * Opens a file for reading, synchronously. The system mostly does that from memory; asking another thread takes ten
 * times as long. Does not wait for a pipe.
 *
 * @throws the system's error
 */
export function openToRead(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
}

/**
 * Fills `target` with the bytes from `offset` on, in another thread. @returns bytes read; fewer than requested at the
 * end of the file
 */
export async function readFully(fd: number, target: Uint8Array, offset: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await readAt(fd, target, done, target.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/**
 * Reads a regular file of a folder that strangers have written. Does not wait for a pipe, and follows no link.
 *
 * @returns undefined if there is no such file, or if it has more than `maxBytes`
 * @throws the system's error if it cannot be read
 */
export async function readBounded(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    if (ABSENT.has((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.size > maxBytes) return undefined;
    const bytes = Buffer.allocUnsafe(stats.size);
    return bytes.subarray(0, await readFully(fd, bytes, 0));
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads a small text, such as a narinfo. Asks another thread once; `readFile` asks four times. @throws the system's
 * error
 */
export async function readSmall(path: string): Promise<string> {
  const fd = openToRead(path);
  try {
    const bytes = Buffer.allocUnsafe(fstatSync(fd).size);
    return bytes.toString('utf8', 0, await readFully(fd, bytes, 0));
  } finally {
    closeSync(fd);
  }
}
