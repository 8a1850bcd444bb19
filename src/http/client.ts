/** The source that never fails: narinfos and NARs from an HTTP binary cache, past cuts, stalls and busy servers. */

import type { Dispatcher } from 'undici';
import { NarswarmError } from '../errors.ts';
import { collectBody } from './collect.ts';
import { type Conditional, getConditionally, type Validators } from './conditional.ts';
import { type HttpClientOptions, resolveOptions } from './options.ts';
import { isAbsent, openUrl, type OpenUrl, rejectStatus } from './request.ts';
import { runAttempts } from './retry.ts';
import { beginTransfer, continueTransfer, type DownloadOptions } from './transfer.ts';

export type { Conditional, Validators } from './conditional.ts';
export type { HttpClientOptions } from './options.ts';
export type { DownloadOptions } from './transfer.ts';

export interface GetBytesOptions {
  /** A longer body is refused with SIZE_MISMATCH. */
  readonly maxBytes: number;
  /** As of the client, for this call. */
  readonly retries?: number | undefined;
  readonly signal?: AbortSignal;
}

/**
 * Keeps connections alive between requests; close it when done.
 *
 * All methods throw NarswarmError with facts `{url, attempts, status}` after the last attempt, the URL without
 * user, password and query; and the signal's own reason, promptly, once it is aborted. Server errors (5xx, 408, 425,
 * 429), failed connections, stalls and truncated bodies are tried again; any other status is final.
 */
export class HttpClient implements AsyncDisposable {
  readonly #options: Required<HttpClientOptions>;
  #dispatcher: Promise<Dispatcher> | undefined;
  readonly #closing = new AbortController();

  constructor(options: HttpClientOptions = {}) {
    this.#options = resolveOptions(options);
  }

  /**
   * Fetches a small file whole (a narinfo, `nix-cache-info`, a manifest); undefined where the server does not have
   * it (404, 410; and 403, which S3 answers for absent keys).
   * Throws HTTP_FAILED, HTTP_STALLED, HTTP_TRUNCATED, SIZE_MISMATCH.
   */
  async getBytes(url: string, options: GetBytesOptions): Promise<Uint8Array | undefined> {
    const signal = this.#linkSignal(options.signal);
    const open = this.#prepare(url, signal);
    const attempt = async (): Promise<Uint8Array | undefined> => {
      const response = await open({});
      if (response.statusCode === 200) return collectBody(response, options.maxBytes);
      if (!isAbsent(response)) throw rejectStatus(response);
      response.discard();
      return undefined;
    };
    return runAttempts(url, attempt, { ...this.#policy(options.retries), signal });
  }

  /**
   * As {@link getBytes}, unless the server says that what was fetched before is still the same.
   *
   * @param options.validators what came with the body that the caller has kept; without them it is always fetched
   */
  async getIfChanged(
    url: string,
    options: GetBytesOptions & { readonly validators?: Validators | undefined },
  ): Promise<Conditional> {
    const signal = this.#linkSignal(options.signal);
    const attempt = getConditionally(this.#prepare(url, signal), options);
    return runAttempts(url, attempt, { ...this.#policy(options.retries), signal });
  }

  /**
   * Streams the bytes [offset, end) of a NAR into `sink`, each once and in order, and returns how many they were.
   * Goes on by Range after a failure, also with servers that ignore Range; bytes gained start the count of retries
   * anew, up to 50 resumptions. Nothing is hashed here: that is the sink's.
   * Throws HTTP_NOT_FOUND, HTTP_FAILED, HTTP_STALLED, HTTP_TRUNCATED; SIZE_MISMATCH at once where the server's size
   * is not `sizeBytes`.
   */
  async download(url: string, options: DownloadOptions): Promise<{ bytes: number }> {
    const signal = this.#linkSignal(options.signal);
    const open = this.#prepare(url, signal);
    const transfer = beginTransfer(options);
    const begin = transfer.position;
    const measureProgress = (): number => transfer.position;
    const attempt = (): Promise<void> => continueTransfer(transfer, open);
    const { givesWay } = options;
    await runAttempts(url, attempt, { ...this.#policy(options.retries), givesWay, signal, measureProgress });
    return { bytes: transfer.position - begin };
  }

  /** Ends what is running (with INTERRUPTED) and closes every socket. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new NarswarmError('INTERRUPTED', 'the HTTP client was closed'));
    await (await this.#dispatcher)?.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #policy(retries: number = this.#options.retries): { retries: number; backoffMs: number } {
    return { retries, backoffMs: this.#options.backoffMs };
  }

  #linkSignal(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
  }

  #prepare(url: string, signal: AbortSignal): OpenUrl {
    const { userAgent } = this.#options;
    return async (headers) => openUrl(url, headers, { dispatcher: await this.#connect(), userAgent, signal });
  }

  /** With the first request: a fetch from peers alone need not wait 25 ms for what it never uses. */
  #connect(): Promise<Dispatcher> {
    this.#dispatcher ??= import('./dispatcher.ts').then(({ createDispatcher }) => createDispatcher(this.#options));
    return this.#dispatcher;
  }
}
