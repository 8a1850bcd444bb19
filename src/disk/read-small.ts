import { closeSync, constants, fstatSync, openSync, read } from 'node:fs';
import { promisify } from 'node:util';

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
