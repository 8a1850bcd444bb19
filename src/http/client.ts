/**
 * Fetches narinfos and NARs from an HTTP binary cache, the source of last resort. Copes with cut connections, stalls
 * and busy servers.
 */

import { NarswarmError } from '../errors.ts';
import { collectBody } from './transfer/collect.ts';
import { type Conditional, getConditionally, type Validators } from './transfer/conditional.ts';
import { Credentials } from './credentials.ts';
import { decodeAnswer } from './transfer/decoded-answer.ts';
import { isNotFound } from './transfer/failure.ts';
import { type CallOptions, type HttpClientOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { type OpenUrl, openUrl } from './transfer/request.ts';
import { runAttempts, type RetryPolicy, type Turn } from './transfer/retry.ts';
import type { Sender } from './connection/sender.ts';
import { beginTransfer, continueTransfer, type DownloadOptions, type RangeSupport } from './transfer/transfer.ts';

export type { Conditional, Validators } from './transfer/conditional.ts';
export type { HttpClientOptions } from './options.ts';
export type { DownloadOptions } from './transfer/transfer.ts';

/** The part of a client that a fetch from upstreams uses. */
export type HttpDownloads = Pick<HttpClient, 'download' | 'getBytes'>;

/** A file of at most this size is short ({@link CallOptions}). */
const SHORT_BYTES = 256 * 1024;

export interface GetBytesOptions extends CallOptions {
  /** Refuses a longer body, also after decompression, with SIZE_MISMATCH. */
  readonly maxBytes: number;
}

/**
 * Fetches over HTTP and keeps connections alive between requests; close it when done. Reads `file:` URLs from the disk
 * as if a server sent them.
 *
 * All methods throw NarswarmError with facts `{url, attempts, status}` after the last attempt; the URL lacks user,
 * password and query. If the signal is aborted, they promptly throw its reason. Retries server errors (5xx, 408, 425,
 * 429), failed connections, stalls and truncated bodies; any other status is final.
 */
export class HttpClient implements AsyncDisposable {
  readonly #readOptions: () => Promise<ResolvedOptions>;
  readonly #senders = new Map<'hasty' | 'patient', Promise<Sender>>();
  readonly #rangeSupport = new Map<string, RangeSupport>();
  readonly #closing = new AbortController();
  #options: Promise<ResolvedOptions> | undefined;
  #credentials: Promise<Credentials> | undefined;

  /** @param options a function is called before the first request, which waits for its result */
  constructor(options: HttpClientOptions | (() => Promise<HttpClientOptions>) = {}) {
    this.#readOptions = async () => resolveOptions(typeof options === 'function' ? await options() : options);
  }

  /**
   * Fetches a small file whole (a narinfo, `nix-cache-info`, a manifest). Returns undefined if the server does not have
   * it (404, 410; and 403, which S3 answers for absent keys).
   * Throws HTTP_FAILED, HTTP_STALLED, HTTP_TRUNCATED, SIZE_MISMATCH.
   */
  async getBytes(url: string, options: GetBytesOptions): Promise<Uint8Array | undefined> {
    return this.#run(url, options, (open) => async () => {
      const response = await open({}).catch((error: unknown) => {
        if (isNotFound(error)) return undefined;
        throw error;
      });
      return response === undefined ? undefined : collectBody(decodeAnswer(response), options.maxBytes);
    });
  }

  /**
   * Fetches as {@link getBytes}, unless the server says that the file has not changed.
   *
   * @param options.validators of the body that the caller has kept. Undefined: always fetches
   */
  async getIfChanged(
    url: string,
    options: GetBytesOptions & { readonly validators?: Validators | undefined },
  ): Promise<Conditional> {
    return this.#run(url, options, (open) => getConditionally(open, options));
  }

  /**
   * Streams the bytes [offset, end) of a NAR into `sink`, each once and in order. Returns their number.
   * Resumes by Range after a failure. A server that ignores or cannot answer Range is asked for the whole file from
   * then on, and the bytes already there are skipped. New bytes reset the count of retries, up to 50 resumptions.
   * Hashes nothing: that is the task of the sink.
   * Throws HTTP_NOT_FOUND, HTTP_FAILED, HTTP_STALLED, HTTP_TRUNCATED; throws SIZE_MISMATCH at once if the server's size
   * is not `sizeBytes`.
   */
  async download(url: string, options: DownloadOptions): Promise<{ bytes: number }> {
    const transfer = beginTransfer(options);
    const begin = transfer.position;
    const support = this.#rangeSupportOf(url);
    const measureProgress = (): number => transfer.position;
    const attempt =
      (open: OpenUrl) =>
      ({ isLast }: Turn) =>
        continueTransfer(transfer, open, { support, isLast });
    const isShort = transfer.end - begin <= SHORT_BYTES;
    await this.#run(url, { ...options, isShort, isNar: true }, attempt, measureProgress);
    return { bytes: transfer.position - begin };
  }

  /** Ends running requests (with INTERRUPTED) and closes every socket. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new NarswarmError('INTERRUPTED', 'the HTTP client was closed'));
    await Promise.allSettled([...this.#senders.values()].map(async (sender) => (await sender).destroy()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #run<T>(
    url: string,
    call: CallOptions & { readonly isNar?: boolean },
    prepare: (open: OpenUrl) => (turn: Turn) => Promise<T>,
    measureProgress?: RetryPolicy['measureProgress'],
  ): Promise<T> {
    // The end of the client reaches requests through their sockets: a composite signal for each would take longer.
    const { signal = this.#closing.signal } = call;
    const { userAgent, backoffMs, retries, lonelyNars, stallTimeoutMs, hastyStallTimeoutMs } =
      await this.#resolvedOptions();
    let failures = 0;
    const open: OpenUrl = async (headers) =>
      openUrl(url, headers, {
        sender: () => this.#connect(call.givesWay === true ? 'hasty' : 'patient'),
        credentials: await this.#openCredentials(),
        linkedFrom: call.linkedFrom,
        isAnnounced: call.isAnnounced,
        isShort: call.isShort === true,
        isNar: call.isNar === true,
        isLast: lonelyNars && call.isNar === true && call.isShort !== true,
        // A body that has begun may continue over another connection. Retries soon, and waits longer each time.
        bodyTimeoutMs: Math.min(stallTimeoutMs, hastyStallTimeoutMs * 2 ** failures),
        userAgent,
        signal,
      });
    const attempt = prepare(open);
    const inTurn = (turn: Turn): Promise<T> => {
      ({ failures } = turn);
      return attempt(turn);
    };
    return runAttempts(url, inTurn, {
      retries: call.retries ?? retries,
      givesWay: call.givesWay,
      backoffMs,
      signal,
      closing: this.#closing.signal,
      ...(measureProgress === undefined ? {} : { measureProgress }),
    });
  }

  #resolvedOptions(): Promise<ResolvedOptions> {
    this.#options ??= this.#readOptions();
    return this.#options;
  }

  #openCredentials(): Promise<Credentials> {
    this.#credentials ??= this.#resolvedOptions().then(
      ({ netrcFile, onWarning }) => new Credentials(netrcFile, onWarning),
    );
    return this.#credentials;
  }

  #rangeSupportOf(url: string): RangeSupport {
    const { protocol, host } = new URL(url);
    const key = `${protocol}//${host}`;
    const known = this.#rangeSupport.get(key) ?? { isRangeless: false };
    this.#rangeSupport.set(key, known);
    return known;
  }

  /** Makes the pools with the first request. */
  #connect(pace: 'hasty' | 'patient'): Promise<Sender> {
    this.#closing.signal.throwIfAborted();
    const known = this.#senders.get(pace) ?? this.#createSender(pace);
    this.#senders.set(pace, known);
    return known;
  }

  async #createSender(pace: 'hasty' | 'patient'): Promise<Sender> {
    const [options, { openSender }] = await Promise.all([
      this.#resolvedOptions(),
      import('./connection/pool-sender.ts'),
    ]);
    const isHasty = pace === 'hasty';
    return openSender(process.env, {
      connectionsPerOrigin: options.connectionsPerOrigin,
      connectTimeoutMs: isHasty ? options.hastyConnectTimeoutMs : options.connectTimeoutMs,
      giveUpMs: options.giveUpMs,
      stallTimeoutMs: isHasty ? options.hastyStallTimeoutMs : options.stallTimeoutMs,
      caFile: options.caFile,
    });
  }
}
