/** Limit on caches that are probed within {@link CacheProbesOptions.againMs}, with those in use. */
const MAX_PROBES = 32;

export interface CacheProbesOptions {
  /** Milliseconds after which a place that was no usable cache may be probed again and makes room for others. */
  readonly againMs: number;
}

/**
 * Chooses which announced caches to probe. Anybody on the local network can announce many places that are no caches:
 * these make room after some time, and places that were never probed come first.
 */
export class CacheProbes {
  readonly #againMs: number;
  /** The time at which each URL was last probed (`performance.now`). */
  readonly #probedAtMs = new Map<string, number>();
  readonly #used = new Set<string>();

  constructor({ againMs }: CacheProbesOptions) {
    this.#againMs = againMs;
  }

  /** Returns the URLs to probe now, and counts them. Pass all announced URLs. */
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

  /** Records a working cache: it is never probed again. */
  noteUsed(url: string): void {
    this.#used.add(url);
  }
}
