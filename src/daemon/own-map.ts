import { isDeepStrictEqual } from 'node:util';
import { isNarswarmError } from '../errors.ts';
import { failureOf, type Failure } from '../failure.ts';
import type { PublicKey } from '../nix/signature.ts';
import { Publisher, type PublisherOptions, type PublisherPlace } from '../publish/publisher.ts';
import type { FileStore } from '../store/file-store.ts';
import { contentsVersion } from '../subscription/published.ts';
import type { NetworkOptions } from '../swarm/network.ts';
import type { Warn } from '../warning.ts';

/** Pause before a hash map that could not be built is tried again, if nothing changes meanwhile. */
const AGAIN_MS = 60_000;

/** Options for the hash map that a daemon publishes. */
export interface OwnMapOptions extends Omit<
  PublisherOptions,
  'store' | 'keys' | 'shareKeys' | 'network' | 'signal' | 'onWarning'
> {
  /**
   * Returns a text that changes if the contents of the hash map may have changed for a reason outside the store. Read
   * every second, so it must be cheap.
   */
  readonly version?: () => Promise<string>;
}

interface OwnMapContext {
  readonly store: FileStore;
  readonly keys: readonly PublicKey[];
  readonly shareKeys?: readonly PublicKey[];
  readonly network: NetworkOptions;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/** Publishes this machine's own hash map while there is something to publish. */
export class OwnMap implements AsyncDisposable {
  readonly #options: OwnMapOptions;
  readonly #context: OwnMapContext;
  readonly #place: PublisherPlace;
  #publisher: Publisher | undefined;
  /** The version of the contents that was last published or tried. */
  #triedOf = '';
  /** Time of `performance.now()` at which to try again even if nothing has changed. */
  #againAtMs = Infinity;
  /** The last reason for publishing nothing. */
  #hindrance: Failure | undefined;

  constructor(options: OwnMapOptions, context: OwnMapContext, place: PublisherPlace) {
    this.#options = options;
    this.#context = context;
    this.#place = place;
  }

  /** The running publisher. Undefined while there is nothing to publish. */
  get publisher(): Publisher | undefined {
    return this.#publisher;
  }

  /** Builds the hash map; rebuilds it if its contents have changed. */
  async refresh(): Promise<void> {
    const version = `${await contentsVersion(this.#context.store, this.#place.offer.catalogue)} ${await this.#options.version?.()}`;
    if (version === this.#triedOf && performance.now() < this.#againAtMs) return;
    this.#triedOf = version;
    this.#againAtMs = performance.now() + AGAIN_MS;
    try {
      if (await this.#publish()) this.#againAtMs = Infinity;
    } catch (error) {
      // Before the first update there is nothing to publish.
      if (!isNarswarmError(error, 'NOT_FOUND', 'ROOT_UNKNOWN', 'NARINFO_UNTRUSTED', 'NARINFO_MISSING')) throw error;
      const hindrance = failureOf(error);
      if (!isDeepStrictEqual(hindrance, this.#hindrance)) this.#context.onWarning({ kind: 'failed', error });
      this.#hindrance = hindrance;
    }
  }

  /** @returns true if the newest contents are published */
  async #publish(): Promise<boolean> {
    const contents = await this.#options.contents();
    const isNothing = contents !== 'everything' && contents.named.size + contents.unnamed.length === 0;
    if (this.#publisher !== undefined && isNothing) {
      this.#place.offer.maps.remove(this.#publisher.built.publication.address);
      await this.#publisher.close();
      this.#publisher = undefined;
      this.#context.onWarning({ kind: 'map-withdrawn' });
    }
    if (this.#publisher !== undefined) return this.#publisher.rebuild();
    this.#publisher = await Publisher.attach({ ...this.#options, ...this.#context }, this.#place);
    this.#options.onRenewed?.(this.#publisher.built);
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#publisher?.close();
  }
}
