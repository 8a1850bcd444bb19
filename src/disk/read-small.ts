import { closeSync, constants, fstatSync, openSync, read, readSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
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

/** Time in milliseconds that a read takes at most if the system has the file in memory. */
const FROM_MEMORY_MS = 1;
/**
 * Reads that are done in another thread after a slow one: twice as many if the next one at once is slow, too. On a busy machine,
 * a read from memory is slow now and then.
 */
const ASIDE = 8;
const MOST_ASIDE = 256;
/** Reads before others have their turn. Small texts take four milliseconds with their signatures. */
const AT_ONCE = 32;

/**
 * Reads many small texts, or parts of files. Mostly the system has them in memory: then reading a text takes 10 µs, and asking
 * another thread 50. Files that come from the disk are read in other threads, several at a time.
 */
export class SmallReader {
  readonly #now: () => number;
  #aside = 0;
  #nextAside = ASIDE;
  #atOnce = 0;
  /** While others have their turn. */
  #turn: Promise<void> | undefined;

  /** @param now milliseconds of a clock */
  constructor(now = (): number => performance.now()) {
    this.#now = now;
  }

  /** Reads a small text. @throws the system's error */
  read(path: string): Promise<string> {
    return this.#read(
      () => readSmallNow(path),
      () => readSmall(path),
    );
  }

  /** Fills `target` as {@link readFully} does. It should have at most a few hundred kilobytes. */
  async fill(fd: number, target: Uint8Array, offset: number): Promise<number> {
    const aside = (from: number): Promise<number> => readFully(fd, target.subarray(from), offset + from);
    const done = await this.#read(
      () => readSync(fd, target, 0, target.length, offset),
      () => aside(0),
    );
    return done === 0 || done === target.length ? done : done + (await aside(done));
  }

  async #read<T>(atOnce: () => T, aside: () => Promise<T>): Promise<T> {
    while (this.#turn !== undefined) await this.#turn;
    if (this.#aside > 0) {
      this.#aside--;
      return aside();
    }
    if (++this.#atOnce % AT_ONCE === 0) this.#turn = nextTurn().then(() => (this.#turn = undefined));
    const startedMs = this.#now();
    const result = atOnce();
    const isSlow = this.#now() - startedMs > FROM_MEMORY_MS;
    this.#aside = isSlow ? this.#nextAside : 0;
    this.#nextAside = isSlow ? Math.min(2 * this.#nextAside, MOST_ASIDE) : ASIDE;
    return result;
  }
}

function readSmallNow(path: string): string {
  const fd = openToRead(path);
  try {
    const bytes = Buffer.allocUnsafe(fstatSync(fd).size);
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(fd);
  }
}
