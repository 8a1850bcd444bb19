import { closeSync, constants, fstatSync, openSync, read } from 'node:fs';
import { promisify } from 'node:util';

const readAt = promisify(read);

/**
 * Opens a file to read it, at once: the system does that from memory, mostly, and asking another thread for it costs ten times
 * as much. A pipe is not waited for.
 *
 * @throws what the system says
 */
export function openToRead(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
}

/** Fills `target` from that offset on, in another thread. @returns bytes read; less than asked for at the end of the file */
export async function readFully(fd: number, target: Uint8Array, offset: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await readAt(fd, target, done, target.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Reads a small text, such as a narinfo, with one question to another thread where `readFile` has four. @throws as the system */
export async function readSmall(path: string): Promise<string> {
  const fd = openToRead(path);
  try {
    const bytes = Buffer.allocUnsafe(fstatSync(fd).size);
    return bytes.toString('utf8', 0, await readFully(fd, bytes, 0));
  } finally {
    closeSync(fd);
  }
}
