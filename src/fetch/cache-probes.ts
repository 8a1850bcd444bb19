/** Limit on caches that are probed within {@link CacheProbesOptions.againMs}, with those in use. */
const MAX_PROBES = 32;

export interface CacheProbesOptions {
  /** Milliseconds after which a place that was no usable cache may be probed again, and makes room for others. */
  readonly againMs: number;
}

/**
 * Chooses which announced caches to probe. Anybody on the local network can announce many that are none: these make room
 * after a while, and those that were never probed come first.
 */
export class CacheProbes {
  readonly #againMs: number;
  /** When each URL was probed last (`performance.now`). */
  readonly #probedAtMs = new Map<string, number>();
  readonly #used = new Set<string>();

  constructor({ againMs }: CacheProbesOptions) {
    this.#againMs = againMs;
  }

  /** Returns the URLs to probe now, and counts them. Pass all that are announced. */
  choose(urls: readonly string[], nowMs: number): string[] {
    for (const url of this.#used) this.#probedAtMs.set(url, nowMs);
    const isRecent = (url: string): boolean => nowMs - (this.#probedAtMs.get(url) ?? -Infinity) < this.#againMs;
    const recent = [...this.#probedAtMs.keys()].filter(isRecent).length;
    const chosen = [...new Set(urls)]
      .filter((url) => !isRecent(url))
      .toSorted((a, b) => (this.#probedAtMs.get(a) ?? -Infinity) - (this.#probedAtMs.get(b) ?? -Infinity))
      .slice(0, MAX_PROBES - recent);
    for (const url of chosen) this.#probedAtMs.set(url, nowMs);
    const announced = new Set(urls);
    for (const url of this.#probedAtMs.keys()) if (!isRecent(url) && !announced.has(url)) this.#probedAtMs.delete(url);
    return chosen;
  }

  /** Records a cache that works: it is never probed again. */
  noteUsed(url: string): void {
    this.#used.add(url);
  }
}
