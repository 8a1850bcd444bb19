import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { DownloadOptions, HttpDownloads } from '../../http/client.ts';
import { parseUpstream, type Upstream } from '../../http/upstream.ts';
import { unlessAborted } from '../../within.ts';
import { patchUrl } from '../../store/patch-list.ts';
import { RETRIES_WITH_ALTERNATIVE } from '../sources/narinfo-sources.ts';
import type { NamedDelta } from '../sources/map-records.ts';
import { UpstreamOrder } from '../scheduler/upstream-order.ts';

const LOOK_EVERY_MS = 250;

/**
 * The HTTP mirrors of hash maps, as upstreams of patches. A mirror is asked only for patches that its own hash map names. The
 * first question is asked alone: if it brings nothing, the mirror is not asked again. So one of an earlier version, which has no
 * patches, gets one question.
 */
export class PatchMirrors implements HttpDownloads {
  readonly upstreams: readonly Upstream[];
  readonly order: UpstreamOrder;
  readonly #http: HttpDownloads;
  /** The mirrors, by the URLs of the patches. */
  readonly #byUrl = new Map<string, PatchMirror>();

  /** @param patienceMs time without a byte from a mirror after which it is not asked again */
  constructor(patches: Iterable<NamedDelta>, http: HttpDownloads, patienceMs: number) {
    const mirrors = new Map<string, PatchMirror>();
    for (const { mirrors: urls, torrent } of patches) {
      for (const url of urls) {
        const mirror = mirrors.get(url) ?? new PatchMirror(parseUpstream(url), patienceMs);
        mirrors.set(url, mirror);
        this.#byUrl.set(mirror.upstream.narUrl(patchUrl(torrent)), mirror);
      }
    }
    this.upstreams = Array.from(mirrors.values(), ({ upstream }) => upstream);
    this.order = new UpstreamOrder(this.upstreams);
    this.#http = http;
  }

  /** Fetches a patch, as the HTTP client does. @throws NAR_UNAVAILABLE if the mirror does not have it, or has failed before */
  async download(url: string, options: DownloadOptions): Promise<{ bytes: number }> {
    const mirror = this.#byUrl.get(url);
    if (mirror === undefined) throw unavailable('the hash map of this mirror names no such patch');
    if (this.order.isLiar(mirror.upstream)) throw unavailable(`${mirror.upstream.name} has sent wrong patches`);
    return mirror.download(url, options, this.#http);
  }

  /** Mirrors have no narinfos. */
  getBytes(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
}

/** The mirror of one hash map. */
class PatchMirror {
  readonly upstream: Upstream;
  readonly #patienceMs: number;
  /** True once it has sent a byte of a patch. */
  #gives = false;
  /** Why it is not asked again. */
  #failure: unknown;
  /** Ends with the answer to the first question. */
  #first: Promise<void> | undefined;
  /** Ends the running downloads. */
  readonly #running = new Set<AbortController>();
  /** Chunks that our own limit, or the disk, holds back. */
  #heldBack = 0;
  /** Time without a byte, counted in looks: a machine that slept does not blame the mirror. */
  #silentMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(upstream: Upstream, patienceMs: number) {
    this.upstream = upstream;
    this.#patienceMs = patienceMs;
  }

  async download(url: string, options: DownloadOptions, http: HttpDownloads): Promise<{ bytes: number }> {
    const { sink, signal = new AbortController().signal } = options;
    while (this.#first !== undefined) await unlessAborted(this.#first, signal);
    if (this.#failure !== undefined) throw this.#failure;
    const answered = Promise.withResolvers<void>();
    if (!this.#gives) this.#first = answered.promise;
    const stop = new AbortController();
    this.#watch(stop);
    try {
      return await http.download(url, {
        ...options,
        givesWay: true,
        retries: RETRIES_WITH_ALTERNATIVE,
        signal: AbortSignal.any([signal, stop.signal]),
        sink: (bytes, offset) => {
          this.#gives = true;
          this.#silentMs = 0;
          this.#first = undefined;
          answered.resolve();
          return this.#holding(sink(bytes, offset));
        },
      });
    } catch (error) {
      const isAbsent = isNarswarmError(error, 'HTTP_NOT_FOUND');
      const failure = isAbsent ? unavailable(`${this.upstream.name} has no such patch`, error) : error;
      if (!signal.aborted && (!this.#gives || stop.signal.aborted)) this.#failure = failure;
      throw failure;
    } finally {
      this.#running.delete(stop);
      if (this.#running.size === 0) clearInterval(this.#timer);
      if (this.#first === answered.promise) this.#first = undefined;
      answered.resolve();
    }
  }

  #watch(stop: AbortController): void {
    if (this.#running.size === 0) {
      this.#silentMs = 0;
      this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    }
    this.#running.add(stop);
  }

  #look(): void {
    this.#silentMs = this.#heldBack > 0 ? 0 : this.#silentMs + LOOK_EVERY_MS;
    if (this.#silentMs < this.#patienceMs) return;
    const { name } = this.upstream;
    const message = `${name} has sent nothing for ${this.#patienceMs / 1000} s`;
    const error = new NarswarmError('HTTP_STALLED', message, { facts: { upstream: name } });
    for (const stop of this.#running) stop.abort(error);
  }

  /** Counts a chunk while it waits. */
  #holding(taken: void | Promise<void>): void | Promise<void> {
    if (taken === undefined) return undefined;
    this.#heldBack++;
    return taken.finally(() => this.#heldBack--);
  }
}

function unavailable(reason: string, cause?: unknown): NarswarmError {
  return new NarswarmError('NAR_UNAVAILABLE', reason, cause === undefined ? {} : { cause });
}
