import { Worker } from 'node:worker_threads';
import { NarswarmError } from '../errors.ts';
import type { NarContents, NarHashes } from './hash-nar.ts';
import type { Unread } from './hash-pool.ts';

/** A question to a thread. */
export interface HashRequest {
  readonly path: string;
  readonly contents: NarContents | undefined;
}

/** A thread's answer. */
export type HashReply =
  | { readonly hashes: NarHashes | undefined }
  | { readonly unread: Unread }
  | { readonly missingProgram: string };

/** Options of a thread. */
export interface HashThreadData {
  /** Whether it and the programs that it starts get the processor only when nobody else wants it. */
  readonly isIdlePriority: boolean;
}

/** A thread that reads NAR files, one after another. */
export class HashThread {
  readonly #worker: Worker;
  #end: Error | undefined;

  constructor(data: HashThreadData = { isIdlePriority: false }) {
    // The worker is beside this file: .ts in a checkout, .js once built.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./hash-worker.${extension}`, import.meta.url), { workerData: data });
    this.#worker.on('error', (error: Error) => (this.#end ??= error));
    this.#worker.on('exit', () => (this.#end ??= hasClosed()));
  }

  /** True once it answers nothing any longer: it was closed, or ran out of memory. */
  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /**
   * Reads one file, as `readNar` does. Ask again only after the answer.
   *
   * @returns undefined if there is no such file, or no longer; why it could not be read
   * @throws NIX_MISSING without the program that decompresses it; an error if the thread ended
   */
  async read(path: string, contents: NarContents | undefined): Promise<NarHashes | Unread | undefined> {
    if (this.#end !== undefined) throw this.#end;
    const reply = await new Promise<HashReply>((resolve, reject) => {
      const worker = this.#worker;
      const onExit = (): void => reject(this.#end);
      worker.once('error', reject);
      worker.once('exit', onExit);
      worker.once('message', (message: HashReply) => {
        worker.off('error', reject);
        worker.off('exit', onExit);
        resolve(message);
      });
      worker.postMessage({ path, contents } satisfies HashRequest);
    });
    if ('missingProgram' in reply) throw new NarswarmError('NIX_MISSING', reply.missingProgram, { facts: { path } });
    return 'unread' in reply ? reply.unread : reply.hashes;
  }

  /** Lets the process end though the thread waits for work. */
  unref(): void {
    this.#worker.unref();
  }

  ref(): void {
    this.#worker.ref();
  }

  async close(): Promise<void> {
    this.#end ??= hasClosed();
    await this.#worker.terminate();
  }
}

function hasClosed(): Error {
  return new Error('the thread that reads NARs has ended');
}
