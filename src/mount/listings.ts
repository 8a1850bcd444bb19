import { ByteTurns } from '../bytes/byte-turns.ts';
import { CircuitBreaker } from '../fetch/sources/circuit-breaker.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { MAX_LISTING_BYTES, maxListingBytes, parseListing } from './listing.ts';
import type { Tree } from './tree.ts';

/** Time for a cache to send a listing. The NAR itself has the same facts. */
const PATIENCE_MS = 10_000;
/** Limit on the bytes that all open listings may have: two of the largest. A tree takes about three times as much. */
const OPEN_BYTES = 2 * MAX_LISTING_BYTES;

/** Finds listings of NARs in caches. Most caches of Nix have one for each path (`write-nar-listing`). */
export class Listings {
  readonly #upstreams: readonly { readonly upstream: Upstream; readonly breaker: CircuitBreaker }[];
  readonly #http: HttpClient;
  readonly #signal: AbortSignal;
  readonly #turns = new ByteTurns(OPEN_BYTES);

  /** @param upstreams the caches, in the order of asking */
  constructor(upstreams: readonly Upstream[], http: HttpClient, signal: AbortSignal) {
    this.#upstreams = upstreams.map((upstream) => ({ upstream, breaker: new CircuitBreaker() }));
    this.#http = http;
    this.#signal = signal;
  }

  /**
   * Gives `take` the tree that a cache shows for a path. Other listings wait for their turn until `take` has put it away,
   * as far as the bytes of all of them may exceed the limit.
   *
   * @returns false if no cache shows one
   * @throws the error of `take`
   */
  find(info: Pick<NarInfo, 'storePath' | 'narSize'>, take: (tree: Tree) => Promise<void>): Promise<boolean> {
    return this.#turns.run(maxListingBytes(info.narSize), async () => {
      const found = await this.#ask(info);
      if (found !== undefined) await take(found);
      return found !== undefined;
    });
  }

  /** Asks one cache after another. Never throws. */
  async #ask({ storePath, narSize }: Pick<NarInfo, 'storePath' | 'narSize'>): Promise<Tree | undefined> {
    const maxBytes = maxListingBytes(narSize);
    for (const { upstream, breaker } of this.#upstreams) {
      if (!breaker.mayAsk(performance.now())) continue; // otherwise each path would wait for a cache that is silent
      const { url, isAnnounced } = upstream;
      const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(PATIENCE_MS)]);
      const options = { maxBytes, signal, retries: 1, isAnnounced, isShort: true };
      const bytes = await this.#http.getBytes(`${url}/${storeHashOf(storePath)}.ls`, options).then(
        (found) => {
          breaker.noteAnswer();
          return found;
        },
        () => breaker.noteFailure(performance.now()),
      );
      const tree = bytes && parseListing(bytes);
      if (tree !== undefined) return tree;
    }
    return undefined;
  }
}
