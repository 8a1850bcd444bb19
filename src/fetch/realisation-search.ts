import type { Realisation } from '../nix/realisation.ts';
import type { Closure } from './closure.ts';
import type { FetchSources } from './fetch-sources.ts';
import { MAPS_GRACE_MS } from './planning.ts';
import { findRealisations } from './realisations.ts';

/** A search for the realisations of a closure, which continues while NARs are fetched. */
export class RealisationSearch {
  readonly #enough = new AbortController();
  readonly #search: Promise<Realisation[]>;

  /** @param signal undefined: nothing is searched */
  constructor(closure: Closure, { store, upstreams, http, keys, maps }: FetchSources, signal: AbortSignal | undefined) {
    const means = { store, upstreams, http, keys, maps: maps.awaited() };
    this.#search =
      signal === undefined
        ? Promise.resolve([])
        : findRealisations(closure, { ...means, signal: AbortSignal.any([signal, this.#enough.signal]) });
  }

  /** Waits a little longer, then ends the search and returns its results. */
  async end(): Promise<Realisation[]> {
    const timer = setTimeout(() => this.#enough.abort(), MAPS_GRACE_MS);
    try {
      return await this.#search;
    } finally {
      clearTimeout(timer);
    }
  }
}
