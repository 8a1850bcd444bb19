import { setTimeout as sleep } from 'node:timers/promises';
import type { CacheService } from '../../discovery/cache-services.ts';
import { formatEndpoint } from '../../discovery/endpoint.ts';
import type { CacheBrowser, CacheBrowserOptions } from '../../discovery/mdns.ts';
import type { HttpClient } from '../../http/client.ts';
import { asAnnounced, parseUpstream, type Upstream } from '../../http/upstream.ts';
import { parseCacheInfo } from '../../nix/cache-info.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { CacheProbes } from './cache-probes.ts';
import { LanCache } from './lan-cache.ts';
import type { NarInfoSource } from './narinfo-sources.ts';
import type { NearSources } from './near-sources.ts';

export interface LanCachesOptions extends Pick<CacheBrowserOptions, 'interfaceAddress' | 'networks' | 'port'> {
  readonly http: HttpClient;
  /** Store directory of usable caches. */
  readonly storeDir: string;
  /** Keys, of which one must have signed a narinfo. */
  readonly keys: readonly PublicKey[];
  /** Configured caches. They are not used a second time. */
  readonly configured: readonly Upstream[];
  /** Milliseconds after which an announced cache that did not work is probed again. Default: a minute. */
  readonly probeAgainMs?: number;
}

/** Limit on caches in use. */
const MAX_CACHES = 8;
const MAX_INFO_BYTES = 64 * 1024;
/** Time for a cache on the local network to answer. A silent one is ignored. */
const PROBE_MS = 1_500;
const PROBE_AGAIN_MS = 60_000;
/** Time for finding caches. Responders wait up to 120 ms (RFC 6762, 6), then the cache must answer. */
const SETTLED_MS = 700;
/**
 * Silence in milliseconds after which the next source is asked, too, for all caches together. Nearby caches answer sooner.
 */
const PATIENCE_MS = 300;
const NAME = 'the caches of the local network';

/**
 * Binary caches that announce themselves on the local network: harmonia, nix-serve, ncps or a beacon. They are not
 * configured, so they may only help. Nothing waits for them, their failures are not failures of a fetch, they get no
 * passwords, and paths that no trusted key has signed count as absent.
 */
export class LanCaches implements NearSources, AsyncDisposable {
  readonly #options: LanCachesOptions;
  readonly #caches = new Map<string, LanCache>();
  readonly #probeAgainMs: number;
  readonly #probes: CacheProbes;
  /** URLs of announced caches. */
  #announced: readonly string[] = [];
  #again: NodeJS.Timeout | undefined;
  readonly #stop = new AbortController();
  readonly #browser: Promise<CacheBrowser>;
  readonly #settled: Promise<unknown>;

  private constructor(options: LanCachesOptions) {
    this.#options = options;
    this.#probeAgainMs = options.probeAgainMs ?? PROBE_AGAIN_MS;
    this.#probes = new CacheProbes({ againMs: this.#probeAgainMs });
    this.#browser = import('../../discovery/mdns.ts').then(({ CacheBrowser }) =>
      CacheBrowser.start({ ...options, onServices: (services) => this.#take(services) }),
    );
    this.#settled = sleep(SETTLED_MS, undefined, { signal: this.#stop.signal, ref: false }).catch(() => undefined);
  }

  /** Starts to look for caches. */
  static start(options: LanCachesOptions): LanCaches {
    return new LanCaches(options);
  }

  /** The known caches that work. */
  get upstreams(): Upstream[] {
    return this.#working().map(({ upstream }) => upstream);
  }

  /** Those of them that answer in time, as sources of narinfos. */
  get sources(): NarInfoSource[] {
    return this.#prompt().map(({ source }) => source);
  }

  readonly awaited: NarInfoSource = {
    name: NAME,
    find: async (hash, signal) => {
      await this.#settled;
      return firstFound(this.#prompt().map((cache) => cache.find(hash, signal)));
    },
  };

  readonly lasting: NarInfoSource = {
    name: NAME,
    mayStall: true,
    patienceMs: 0, // neighbours are asked at the same time
    find: async (hash, signal) => {
      await this.#settled;
      return firstFound(this.#working().map((cache) => cache.findLast(hash, signal)));
    },
  };

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#again);
    await (await this.#browser.catch(() => undefined))?.close();
  }

  #working(): LanCache[] {
    return [...this.#caches.values()].filter(({ works }) => works);
  }

  #prompt(): LanCache[] {
    return [...this.#caches.values()].filter(({ isPrompt }) => isPrompt);
  }

  #take(services: readonly CacheService[]): void {
    const configured = new Set(this.#options.configured.map(({ url }) => new URL(url).origin));
    this.#announced = services
      .flatMap(({ endpoints }) => endpoints.map((endpoint) => `http://${formatEndpoint(endpoint)}`))
      .filter((url) => !configured.has(new URL(url).origin));
    this.#probeAnnounced();
  }

  #probeAnnounced(): void {
    if (this.#stop.signal.aborted) return;
    for (const url of this.#probes.choose(this.#announced, performance.now())) void this.#probe(url);
    if (this.#announced.every((url) => this.#caches.has(url))) return;
    this.#again ??= setTimeout(() => {
      this.#again = undefined;
      this.#probeAnnounced();
    }, this.#probeAgainMs + 1).unref();
  }

  /** Uses a cache if its nix-cache-info is valid and for this store directory. */
  async #probe(url: string): Promise<void> {
    const { http, keys, storeDir } = this.#options;
    const upstream = asAnnounced(parseUpstream(url));
    try {
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(PROBE_MS)]);
      const bytes = await http.getBytes(upstream.infoUrl, {
        maxBytes: MAX_INFO_BYTES,
        retries: 0,
        givesWay: true,
        isAnnounced: true,
        signal,
      });
      if (bytes === undefined || parseCacheInfo(new TextDecoder().decode(bytes)).storeDir !== storeDir) return;
    } catch {
      return; // it is not a cache, or cannot be reached
    }
    if (this.#caches.size >= MAX_CACHES) return;
    this.#probes.noteUsed(url);
    const patienceMs = (): number => PATIENCE_MS / Math.max(1, this.#prompt().length);
    this.#caches.set(url, new LanCache(upstream, { http, keys, storeDir, patienceMs }));
  }
}

/** Returns the first narinfo that is found. Undefined if none is. */
function firstFound(asked: readonly Promise<NarInfo | undefined>[]): Promise<NarInfo | undefined> {
  return Promise.any(asked.map(async (one) => (await one) ?? Promise.reject(NOTHING))).catch(() => undefined);
}

const NOTHING = new Error('a cache of the local network does not have a path');
