/** The answer of an HTTP server. */

import { giveBack, lend } from '../../bytes/lent-buffers.ts';
import type { Answer, TakeChunk } from '../transfer/answer.ts';
import { AttemptFailure, explainNetworkError } from '../transfer/failure.ts';
import type { Sender, Sending } from './sender.ts';

/** Limit on bytes of a body that wait for a taker. Beyond it, the server is held back. */
const MAX_QUEUED_BYTES = 256 * 1024;
/** Limit on reading an unwanted body to its end, so that its connection can serve the next request. */
const MAX_DISCARDED_BYTES = 128 * 1024;

/** Limit on interim answers (1xx) to one request. A server could send them for ever. */
const MAX_INTERIM_ANSWERS = 20;

export class SocketAnswer implements Answer {
  readonly statusCode: number;
  readonly #headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly #controller: Sending;
  readonly #ended = Promise.withResolvers<void>();
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #take: TakeChunk | undefined;
  #isBusy = false;
  /** Set at the end of the body. */
  #end: { readonly failure: unknown } | undefined;

  private constructor(
    statusCode: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    controller: Sending,
  ) {
    this.statusCode = statusCode;
    this.#headers = headers;
    this.#controller = controller;
    this.#ended.promise.catch(() => undefined); // the reader of the body gets the error
  }

  /**
   * Sends a GET.
   *
   * @throws AttemptFailure if the connection or the answer fails before the headers are complete; the signal's reason
   */
  static async get(
    sender: Sender,
    target: URL,
    options: {
      headers: Readonly<Record<string, string>>;
      bodyTimeoutMs: number;
      isShort: boolean;
      isNar: boolean;
      isLast: boolean;
      signal: AbortSignal;
    },
  ): Promise<SocketAnswer> {
    const { headers, bodyTimeoutMs: bodyTimeout, isShort, isNar, isLast, signal } = options;
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<SocketAnswer>();
    let answer: SocketAnswer | undefined;
    let controller: Sending | undefined;
    let interimAnswers = 0;
    const abort = (): void => {
      const reason = signal.reason as Error;
      controller?.abort(reason);
      reject(reason);
      if (answer !== undefined) answer.#fail(reason);
    };
    signal.addEventListener('abort', abort, { once: true });
    const settle = (): void => signal.removeEventListener('abort', abort);
    sender.dispatch(
      {
        origin: target.origin,
        path: `${target.pathname}${target.search}`,
        method: 'GET',
        headers,
        bodyTimeout,
        isShort,
        isNar,
        isLast,
      },
      {
        onRequestStart(started) {
          controller = started;
          if (signal.aborted) started.abort(signal.reason as Error);
        },
        onResponseStart(started, statusCode, received) {
          if (statusCode < 200) {
            interimAnswers += 1;
            if (interimAnswers <= MAX_INTERIM_ANSWERS) return;
            const reason = `the server sent ${interimAnswers} interim answers (${statusCode}) and no other`;
            started.abort(new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'once' }));
            return;
          }
          answer = new SocketAnswer(statusCode, received, started);
          resolve(answer);
        },
        onResponseData(_, chunk) {
          if (answer !== undefined) answer.#onData(chunk);
        },
        onResponseEnd() {
          settle();
          if (answer !== undefined) answer.#onEnd();
        },
        onResponseError(_, error) {
          settle();
          const isAborted = signal.aborted;
          reject(isAborted ? signal.reason : explainNetworkError(error, 'headers'));
          if (answer === undefined) return;
          if (isAborted) answer.#fail(signal.reason);
          else answer.#onEnd(explainNetworkError(error, 'body'));
        },
      },
    );
    return promise;
  }

  header(name: string): string | undefined {
    const value = this.#headers[name];
    return Array.isArray(value) ? value[0] : value;
  }

  async read(take: TakeChunk): Promise<void> {
    this.#take ??= take;
    this.#drain();
    await this.#ended.promise;
  }

  close(): void {
    this.#refuse(new Error('the rest of the answer is not wanted'));
  }

  discard(): void {
    let bytes = 0;
    this.read((chunk) => {
      bytes += chunk.length;
      if (bytes > MAX_DISCARDED_BYTES) this.close();
    }).catch(() => undefined);
  }

  #onData(chunk: Buffer): void {
    if (this.#end !== undefined) return;
    if (this.#take !== undefined && !this.#isBusy && this.#queue.length === 0) {
      this.#give(this.#take, chunk);
      return;
    }
    lend(chunk);
    this.#queue.push(chunk);
    this.#queuedBytes += chunk.length;
    if (this.#queuedBytes > MAX_QUEUED_BYTES) this.#controller.pause();
  }

  /** Hands over the bytes that arrived before a failure, too: the next attempt continues after them. */
  #onEnd(failure?: unknown): void {
    this.#end ??= { failure };
    this.#drain();
  }

  /** Hands over the waiting chunks, then the end. Reports nothing to a taker while it handles a chunk. */
  #drain(): void {
    const take = this.#take;
    if (take === undefined || this.#isBusy) return;
    for (let chunk = this.#queue.shift(); chunk !== undefined; chunk = this.#queue.shift()) {
      this.#queuedBytes -= chunk.length;
      this.#give(take, chunk);
      giveBack(chunk);
      if (this.#isBusy) return;
    }
    if (this.#end === undefined) {
      if (this.#controller.paused) this.#controller.resume();
    } else if (this.#end.failure === undefined) this.#ended.resolve();
    else this.#ended.reject(this.#end.failure);
  }

  #give(take: TakeChunk, chunk: Buffer): void {
    try {
      const taking = take(chunk);
      if (taking === undefined) return;
      this.#isBusy = true;
      lend(chunk);
      this.#controller.pause();
      taking.then(
        () => {
          this.#isBusy = false;
          giveBack(chunk);
          this.#drain();
        },
        (error: unknown) => {
          this.#isBusy = false;
          giveBack(chunk);
          this.#refuse(error);
        },
      );
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** Ends the body because its taker does not want more of it. */
  #refuse(error: unknown): void {
    this.#end = { failure: error }; // also instead of a failure of the server that was not reported yet
    this.#fail(error);
    this.#controller.abort(error instanceof Error ? error : new Error(String(error)));
  }

  #fail(error: unknown): void {
    this.#end = this.#end?.failure === undefined ? { failure: error } : this.#end;
    for (const chunk of this.#queue) giveBack(chunk);
    this.#queue = [];
    this.#take ??= ignore;
    this.#drain(); // also after an earlier failure: the taker may have been handling a chunk
  }
}

function ignore(): void {
  // Nobody reads the error.
}
