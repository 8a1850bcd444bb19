import type { Realisation } from '../../nix/realisation.ts';
import type { Closure } from './closure.ts';
import type { FetchSources } from '../sources/fetch-sources.ts';
import type { HashMaps } from '../sources/hash-maps.ts';
import { findRealisations } from './realisations.ts';

/** Time for caches after the last NAR. */
const CACHES_GRACE_MS = 2_000;

/** A search for the realisations of a closure, which continues while NARs are fetched. */
export class RealisationSearch {
  readonly #enough = new AbortController();
  readonly #maps: HashMaps;
  readonly #search: Promise<Realisation[]>;

  /** @param signal undefined: nothing is searched */
  constructor(closure: Closure, { store, upstreams, http, keys, maps }: FetchSources, signal: AbortSignal | undefined) {
    this.#maps = maps;
    const means = { store, upstreams, http, keys, maps: maps.awaited() };
    this.#search =
      signal === undefined
        ? Promise.resolve([])
        : findRealisations(closure, { ...means, signal: AbortSignal.any([signal, this.#enough.signal]) });
  }

  /** Waits a little longer, then ends the search and returns its results. */
  async end(): Promise<Realisation[]> {
    const timer = setTimeout(() => this.#enough.abort(), this.#maps.isSettled ? CACHES_GRACE_MS : this.#maps.graceMs);
    try {
      return await this.#search;
    } finally {
      clearTimeout(timer);
    }
  }
}
