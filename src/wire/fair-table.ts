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
 * A table of bounded size. Its room is shared fairly among networks ({@link rangeOf}), and among the hosts of each network.
 *
 * If it is full, a new entry replaces an entry of the network with the most entries, if those are more than the new
 * entry's network has. Otherwise it replaces an entry of its own network, of a host with more entries than its own host.
 * Among several, the oldest entry of the host with the most entries is removed. So a network that names ten thousand addresses
 * displaces only addresses of itself, and so does a host.
 */
export class FairTable<V> {
  readonly #options: FairTableOptions<V>;
  readonly #entries = new Map<string, V>();
  readonly #ranges = new Map<string, Range>();
  /** Networks by their number of entries. */
  readonly #bySize: Set<string>[] = [];

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
      const own = this.#ranges.get(range)?.hosts.get(host)?.size ?? 0;
      if (own >= perHost) return false;
      if (this.#entries.size >= capacity) {
        const victim = this.#victimFor(range, own);
        if (victim === undefined) return false;
        evicted = this.#entries.get(victim);
        this.delete(victim);
      }
    }
    this.#entries.set(key, value);
    const network = this.#ranges.get(range) ?? { size: 0, hosts: new Map<string, Set<string>>() };
    this.#ranges.set(range, network);
    const keys = network.hosts.get(host) ?? new Set();
    network.hosts.set(host, keys.add(key));
    network.size++;
    this.#resize(range, network.size - 1, network.size);
    return { evicted };
  }

  delete(key: string): void {
    const value = this.#entries.get(key);
    if (value === undefined) return;
    this.#entries.delete(key);
    const host = this.#options.hostOf(value);
    const range = rangeOf(host);
    const network = this.#ranges.get(range);
    const keys = network?.hosts.get(host);
    if (network === undefined || keys === undefined) return;
    keys.delete(key);
    if (keys.size === 0) network.hosts.delete(host);
    network.size--;
    this.#resize(range, network.size + 1, network.size);
    if (network.size === 0) this.#ranges.delete(range);
  }

  #resize(range: string, before: number, after: number): void {
    this.#bySize[before]?.delete(range);
    if (after > 0) (this.#bySize[after] ??= new Set()).add(range);
    while (this.#bySize.length > 0 && (this.#bySize.at(-1)?.size ?? 0) === 0) this.#bySize.pop();
  }

  /**
   * Returns the key to remove for a new entry of `range`: one of the largest network with more entries, or else one of
   * its own network.
   *
   * @param ownOfHost number of entries of its host
   */
  #victimFor(range: string, ownOfHost: number): string | undefined {
    const own = this.#ranges.get(range)?.size ?? 0;
    for (let size = this.#bySize.length - 1; size > own; size--) {
      for (const larger of this.#bySize[size] ?? []) {
        const victim = this.#victimIn(larger, 0);
        if (victim !== undefined) return victim;
      }
    }
    return this.#victimIn(range, ownOfHost + 1);
  }

  /** Returns the oldest removable key of the host with the most, among hosts of a network with more than `above`. */
  #victimIn(range: string, above: number): string | undefined {
    const larger = [...(this.#ranges.get(range)?.hosts.values() ?? [])].filter(({ size }) => size > above);
    for (const keys of larger.toSorted((a, b) => b.size - a.size))
      for (const key of keys) if (this.#mayGo(key)) return key;
    return undefined;
  }

  #mayGo(key: string): boolean {
    const value = this.#entries.get(key);
    return value !== undefined && !this.#options.isKept(value);
  }
}

interface Range {
  size: number;
  /** Keys of each host, oldest first. */
  readonly hosts: Map<string, Set<string>>;
}
