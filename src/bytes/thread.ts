import { Worker } from 'node:worker_threads';

/** A question on its way to a thread. */
export interface Asked<Question> {
  readonly id: number;
  readonly question: Question;
}

/** A reply of the thread. Answers to synchronous work come in the order of the questions. */
export type Reply<Answer> =
  | { readonly id: number; readonly answer: Answer }
  /** An error of the work: its message, and the system's code, such as ENOSPC. */
  | { readonly id: number; readonly failure: { readonly message: string; readonly code: string | undefined } };

/**
 * A thread that answers questions, any number at a time. Keeps the process alive only while an answer is awaited. Does
 * not copy bytes in shared memory (lent-buffers.ts).
 */
export class Thread<Question, Answer> {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer>>();
  /** The reason why it ended. Nothing is answered after that. */
  #end: Error | undefined;
  #nextId = 1;

  /** @param file the file of the worker, which calls `answerQuestions` (thread-worker.ts) */
  constructor(file: URL, workerData?: unknown) {
    this.#worker = new Worker(file, { workerData });
    this.#worker.unref();
    this.#worker.on('message', (reply: Reply<Answer>) => this.#take(reply));
    this.#worker.on('error', (error: Error) => this.#endWith(error));
    this.#worker.on('exit', () => this.#endWith(hasEnded()));
  }

  /** True if it no longer answers: it was closed, or ran out of memory. */
  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** Asks a question. @throws the error of the work, with its message and its code; an error if the thread has ended */
  ask(question: Question): Promise<Answer> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<Answer>();
    if (this.#waiting.size === 0) this.#worker.ref();
    this.#waiting.set(id, waiting);
    this.#worker.postMessage({ id, question } satisfies Asked<Question>);
    return waiting.promise;
  }

  /** Ends the thread and its present work. */
  async close(): Promise<void> {
    this.#endWith(hasEnded());
    await this.#worker.terminate();
  }

  #take(reply: Reply<Answer>): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if ('answer' in reply) waiting?.resolve(reply.answer);
    else waiting?.reject(Object.assign(new Error(reply.failure.message), { code: reply.failure.code }));
  }

  #endWith(error: Error): void {
    this.#end ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#end);
    this.#waiting.clear();
  }
}

/** Returns the URL of a worker's file beside a module: .ts in a checkout, .js once built. */
export function workerBeside(moduleUrl: string, name: string): URL {
  return new URL(`./${name}.${moduleUrl.endsWith('.ts') ? 'ts' : 'js'}`, moduleUrl);
}

function hasEnded(): Error {
  return new Error('the thread has ended');
}
