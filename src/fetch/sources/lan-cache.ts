import type { HttpClient } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import { isNarswarmError } from '../../errors.ts';
import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { admitNarInfo } from '../../nix/sound-remarks.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import { upstreamSource, type NarInfoSource } from './narinfo-sources.ts';

/** Time for a whole narinfo. A path that the cache lacks, or withholds, is delayed by no more. */
const ANSWER_MS = 600;
/** The same if no other source may have the path. */
const LAST_ANSWER_MS = 10_000;

export interface LanCacheContext {
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  readonly storeDir: string;
  /** Returns the silence in milliseconds after which the next source is asked, too. */
  readonly patienceMs: () => number;
}

/** One cache of the local network. Nobody has configured it, so nothing waits for it for long. */
export class LanCache {
  readonly upstream: Upstream;
  readonly source: NarInfoSource;
  readonly #keys: readonly PublicKey[];
  readonly #inner: NarInfoSource;
  readonly #breaker = new CircuitBreaker();
  /** Of narinfos that came too late. An answer in time does not reset it: a hostile cache may choose when to be late. */
  readonly #late = new CircuitBreaker();

  /** @param upstream as announced */
  constructor(upstream: Upstream, { http, keys, storeDir, patienceMs }: LanCacheContext) {
    this.upstream = upstream;
    this.#keys = keys;
    this.#inner = upstreamSource(this.upstream, http, 0, storeDir);
    this.source = {
      name: this.upstream.name,
      mayStall: true,
      get patienceMs() {
        return patienceMs();
      },
      upstream: this.upstream,
      find: (hash, signal) => this.find(hash, signal),
    };
  }

  /** True while it may be asked for NARs. */
  get works(): boolean {
    return this.#breaker.mayAsk(performance.now());
  }

  /** True while it may be asked for narinfos. */
  get isPrompt(): boolean {
    return this.works && this.#late.mayAsk(performance.now());
  }

  /** Finds a narinfo. One that is late, or has no trusted signature, counts as absent. Never rejects. */
  async find(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    return this.isPrompt ? this.#ask(hash, signal, ANSWER_MS, this.#late) : undefined;
  }

  /** As {@link find}, with more patience. */
  async findLast(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    return this.works ? this.#ask(hash, signal, LAST_ANSWER_MS, this.#breaker) : undefined;
  }

  /** @param late takes the failure if it has not answered within that time */
  async #ask(
    hash: StoreHash,
    signal: AbortSignal,
    withinMs: number,
    late: CircuitBreaker,
  ): Promise<NarInfo | undefined> {
    const stop = new AbortController();
    let timer = setTimeout(() => {
      // If this process had no time, the answer may be in the socket: it is read before another timer fires.
      timer = setTimeout(() => stop.abort(LATE));
    }, withinMs);
    try {
      const info = await this.#inner.find(hash, AbortSignal.any([signal, stop.signal]));
      this.#breaker.noteAnswer();
      return info && admitNarInfo(info, this.#keys, hash, true);
    } catch (error) {
      if (signal.aborted) return undefined;
      if (stop.signal.aborted) late.noteFailure(performance.now());
      // A narinfo signed only by the cache's own key is an answer, though a useless one.
      else if (!isNarswarmError(error, 'NARINFO_UNTRUSTED')) this.#breaker.noteFailure(performance.now());
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** One error for all aborts: an abort without a reason makes an error with a stack each time. */
const LATE = new Error('a cache of the local network is late');
