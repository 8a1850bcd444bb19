import { rangeOf } from './address-range.ts';

/** Bounds and callbacks of a {@link FairTable}. */
export interface FairTableOptions<V> {
  readonly capacity: number;
  /** Limit on entries of one host. */
  readonly perHost: number;
  readonly hostOf: (value: V) => string;
  /** Returns true for an entry that always stays, for example one that a person named, or one of proven merit. */
  readonly isKept: (value: V) => boolean;
}

/**
 * A table of bounded size whose room is shared fairly among networks ({@link rangeOf}). If it is full, a new entry
 * replaces the oldest entry of the largest network, if that network has more entries than its own. So a network that
 * names ten thousand addresses pushes out only its own.
 */
export class FairTable<V> {
  readonly #options: FairTableOptions<V>;
  readonly #entries = new Map<string, V>();
  /** Keys by network, oldest first. */
  readonly #ranges = new Map<string, Set<string>>();
  /** Networks by their number of entries. */
  readonly #bySize: Set<string>[] = [];
  readonly #hosts = new Map<string, number>();

  constructor(options: FairTableOptions<V>) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key);
  }

  values(): IterableIterator<V> {
    return this.#entries.values();
  }

  /**
   * Adds an entry under an unused key.
   *
   * @returns false if there is no room for it; otherwise the entry that it replaced, if any
   */
  add(key: string, value: V): false | { readonly evicted: V | undefined } {
    const { capacity, perHost, hostOf, isKept } = this.#options;
    const host = hostOf(value);
    const range = rangeOf(host);
    let evicted: V | undefined;
    if (!isKept(value)) {
      if ((this.#hosts.get(host) ?? 0) >= perHost) return false;
      if (this.#entries.size >= capacity) {
        const victim = this.#victimFor(range);
        if (victim === undefined) return false;
        evicted = this.#entries.get(victim);
        this.delete(victim);
      }
    }
    this.#entries.set(key, value);
    this.#hosts.set(host, (this.#hosts.get(host) ?? 0) + 1);
    const keys = this.#ranges.get(range) ?? new Set();
    keys.add(key);
    this.#ranges.set(range, keys);
    this.#resize(range, keys.size - 1, keys.size);
    return { evicted };
  }

  delete(key: string): void {
    const value = this.#entries.get(key);
    if (value === undefined) return;
    this.#entries.delete(key);
    const host = this.#options.hostOf(value);
    const left = (this.#hosts.get(host) ?? 1) - 1;
    if (left > 0) this.#hosts.set(host, left);
    else this.#hosts.delete(host);
    const range = rangeOf(host);
    const keys = this.#ranges.get(range);
    if (keys === undefined) return;
    keys.delete(key);
    this.#resize(range, keys.size + 1, keys.size);
    if (keys.size === 0) this.#ranges.delete(range);
  }

  #resize(range: string, before: number, after: number): void {
    this.#bySize[before]?.delete(range);
    if (after > 0) (this.#bySize[after] ??= new Set()).add(range);
    while (this.#bySize.length > 0 && (this.#bySize.at(-1)?.size ?? 0) === 0) this.#bySize.pop();
  }

  /**
   * Returns the key to remove for a new entry of `range`: the oldest removable one of the largest network with more
   * entries.
   */
  #victimFor(range: string): string | undefined {
    const own = this.#ranges.get(range)?.size ?? 0;
    for (let size = this.#bySize.length - 1; size > own; size--) {
      for (const larger of this.#bySize[size] ?? []) {
        const victim = [...(this.#ranges.get(larger) ?? [])].find((key) => this.#mayGo(key));
        if (victim !== undefined) return victim;
      }
    }
    return undefined;
  }

  #mayGo(key: string): boolean {
    const value = this.#entries.get(key);
    return value !== undefined && !this.#options.isKept(value);
  }
}
