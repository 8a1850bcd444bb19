import { Thread, workerBeside } from '../../bytes/thread.ts';
import { NarswarmError } from '../../errors.ts';
import type { NarContents, NarHashes } from '../hashing/hash-nar.ts';
import type { Unread } from '../hashing/hash-pool.ts';

/** A question to the thread. */
export interface ReadQuestion {
  readonly path: string;
  readonly contents: NarContents | undefined;
}

/** The answer of the thread. */
export type ReadAnswer =
  | { readonly hashes: NarHashes | undefined }
  | { readonly unread: Unread }
  | { readonly missingProgram: string };

/** Options of a thread. */
export interface ReadingThreadData {
  /** Nice value of its programs, 0 (the process's own) to 19, and of the thread, at most 5. */
  readonly nice: number;
}

/** A thread that reads NAR files. Ask for one at a time: several would share one processor. */
export class ReadingThread {
  readonly #thread: Thread<ReadQuestion, ReadAnswer>;

  constructor(data: ReadingThreadData = { nice: 0 }) {
    this.#thread = new Thread(workerBeside(import.meta.url, 'reading-worker'), data);
  }

  /** True if it no longer answers: it was closed, or ran out of memory. */
  get hasEnded(): boolean {
    return this.#thread.hasEnded;
  }

  /**
   * Reads one file as `readNar` does.
   *
   * @returns undefined if the file does not exist; the reason if it could not be read
   * @throws NIX_MISSING if the program that decompresses it is missing; an error if the thread ended
   */
  async read(path: string, contents: NarContents | undefined): Promise<NarHashes | Unread | undefined> {
    const answer = await this.#thread.ask({ path, contents });
    if ('missingProgram' in answer) throw new NarswarmError('NIX_MISSING', answer.missingProgram, { facts: { path } });
    return 'unread' in answer ? answer.unread : answer.hashes;
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
