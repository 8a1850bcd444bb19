import { setTimeout as sleep } from 'node:timers/promises';
import type { CacheService } from '../discovery/cache-services.ts';
import { formatEndpoint } from '../discovery/endpoint.ts';
import type { CacheBrowser, CacheBrowserOptions } from '../discovery/mdns.ts';
import { isNarswarmError } from '../errors.ts';
import type { HttpClient } from '../http/client.ts';
import { parseUpstream, type Upstream } from '../http/upstream.ts';
import { parseCacheInfo } from '../nix/cache-info.ts';
import type { PublicKey } from '../nix/signature.ts';
import { admitNarInfo } from '../nix/sound-remarks.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import { upstreamSource, type NarInfoSource } from './find-narinfo.ts';
import type { NearSources } from './near-sources.ts';

export interface LanCachesOptions extends Pick<CacheBrowserOptions, 'interfaceAddress' | 'networks' | 'port'> {
  readonly http: HttpClient;
  /** Caches for another store directory are not used. */
  readonly storeDir: string;
  /** Only narinfos that one of these has signed count. */
  readonly keys: readonly PublicKey[];
  /** Caches that are configured: they are not used a second time. */
  readonly configured: readonly Upstream[];
}

/** Caches that are used at a time. */
const MAX_CACHES = 8;
const MAX_INFO_BYTES = 64 * 1024;
/** A cache on the local network that takes longer to say what it is, is none. */
const PROBE_MS = 1_500;
/** Responders wait up to 120 ms (RFC 6762, 6), and then the cache has to say what it is. */
const SETTLED_MS = 700;
/** Silence in milliseconds after which the next source is asked, too: all that is near has answered by then. */
const PATIENCE_MS = 300;

interface LanCache {
  readonly upstream: Upstream;
  readonly source: NarInfoSource;
  readonly breaker: CircuitBreaker;
}

/**
 * Binary caches that announce themselves on the local network: harmonia, nix-serve, ncps or a beacon. Nobody has configured
 * them, so they can only help: nothing waits for them, their failures are no failures of a fetch, they get no passwords,
 * and what no trusted key has signed counts as absent.
 */
export class LanCaches implements NearSources, AsyncDisposable {
  readonly #options: LanCachesOptions;
  readonly #caches = new Map<string, LanCache>();
  readonly #probed = new Set<string>();
  readonly #stop = new AbortController();
  readonly #browser: Promise<CacheBrowser>;
  readonly #settled: Promise<unknown>;

  private constructor(options: LanCachesOptions) {
    this.#options = options;
    this.#browser = import('../discovery/mdns.ts').then(({ CacheBrowser }) =>
      CacheBrowser.start({ ...options, onServices: (services) => this.#take(services) }),
    );
    this.#settled = sleep(SETTLED_MS, undefined, { signal: this.#stop.signal, ref: false }).catch(() => undefined);
  }

  /** Begins to look for them. */
  static start(options: LanCachesOptions): LanCaches {
    return new LanCaches(options);
  }

  /** Caches that are known now, and work. */
  get upstreams(): Upstream[] {
    return this.#working().map(({ upstream }) => upstream);
  }

  /** The same as sources of narinfos. */
  get sources(): NarInfoSource[] {
    return this.#working().map(({ source }) => source);
  }

  readonly awaited: NarInfoSource = {
    name: 'the caches of the local network',
    find: async (hash, signal) => {
      await this.#settled;
      for (const source of this.sources) {
        const info = await source.find(hash, signal);
        if (info !== undefined) return info;
      }
      return undefined;
    },
  };

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await (await this.#browser.catch(() => undefined))?.close();
  }

  #working(): LanCache[] {
    const now = performance.now();
    return [...this.#caches.values()].filter(({ breaker }) => breaker.mayAsk(now));
  }

  #take(services: readonly CacheService[]): void {
    for (const { endpoints } of services)
      for (const endpoint of endpoints) {
        const url = `http://${formatEndpoint(endpoint)}`;
        if (this.#probed.has(url) || this.#probed.size >= MAX_CACHES * 4) continue;
        this.#probed.add(url);
        void this.#probe(url);
      }
  }

  /** Uses a cache if it says that it is one, for this store directory. */
  async #probe(url: string): Promise<void> {
    const { http, storeDir, configured } = this.#options;
    const upstream = parseUpstream(url);
    if (configured.some((known) => known.url === upstream.url)) return;
    http.withholdFrom(new URL(url).origin);
    try {
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(PROBE_MS)]);
      const bytes = await http.getBytes(upstream.infoUrl, {
        maxBytes: MAX_INFO_BYTES,
        retries: 0,
        givesWay: true,
        signal,
      });
      if (bytes === undefined || parseCacheInfo(new TextDecoder().decode(bytes)).storeDir !== storeDir) return;
    } catch {
      return; // it is none, or cannot be reached
    }
    if (this.#caches.size < MAX_CACHES) this.#caches.set(url, this.#open(upstream));
  }

  #open(upstream: Upstream): LanCache {
    const { http, keys, storeDir } = this.#options;
    const inner = upstreamSource(upstream, http, 0, storeDir);
    const breaker = new CircuitBreaker();
    const source: NarInfoSource = {
      name: upstream.name,
      mayStall: true,
      patienceMs: PATIENCE_MS,
      upstream,
      find: async (hash, signal) => {
        if (!breaker.mayAsk(performance.now())) return undefined;
        try {
          const info = await inner.find(hash, signal);
          breaker.noteAnswer();
          return info && admitNarInfo(info, keys, hash, true);
        } catch (error) {
          // What is signed by its own key alone is an answer, if of no use.
          if (!signal.aborted && !isNarswarmError(error, 'NARINFO_UNTRUSTED')) breaker.noteFailure(performance.now());
          return undefined;
        }
      },
    };
    return { upstream, source, breaker };
  }
}
