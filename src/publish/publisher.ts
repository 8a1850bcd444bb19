import { cohortInfoHash } from '../index/cohort-key.ts';
import { announcePublication, lastManifest, publishedDir } from './publication.ts';
import { StoreOffer } from '../serve/store-offer.ts';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { Network, type NetworkOptions } from '../swarm/network.ts';
import type { PublicKey } from '../nix/signature.ts';
import { buildPublication, type BuildOptions, type Built } from './build-publication.ts';
import { IndexServer } from './index-server.ts';

/** BEP 44 nodes may drop an item after two hours. */
const REPUBLISH_MS = 3_600_000;
/** However short a life a map is given, it is not renewed more often. */
const MIN_RENEW_MS = 1_000;

export interface PublisherOptions extends BuildOptions {
  /** Keys whose NARs are given to others, besides those of the map. Default: none. */
  readonly shareKeys?: readonly PublicKey[];
  readonly network: NetworkOptions;
  /** TCP ports for the map over HTTP: the first that is free is taken; 0 is any. */
  readonly httpPorts: readonly number[];
  readonly onWarning: (message: string) => void;
  /** Told of each new generation after the first. */
  readonly onRenewed?: (built: Built) => void;
}

/** Where a publisher works: both are closed by whoever made them. */
export interface PublisherPlace {
  readonly network: Network;
  /** What the network gives to others. */
  readonly offer: StoreOffer;
}

/** A publisher at work: offers the index to peers, keeps the DHT item alive, serves the index over HTTP. */
export class Publisher implements AsyncDisposable {
  readonly network: Network;
  readonly http: IndexServer;
  readonly #options: PublisherOptions;
  readonly #place: PublisherPlace;
  readonly #timer: NodeJS.Timeout;
  readonly #stop: AbortController;
  readonly #stack: AsyncDisposableStack;
  #building: Promise<boolean> | undefined;
  #built: Built;
  /** DHT nodes that took the pointer the last time. */
  dhtNodes = 0;

  private constructor(
    built: Built,
    http: IndexServer,
    place: PublisherPlace,
    stop: AbortController,
    options: PublisherOptions,
    stack: AsyncDisposableStack,
  ) {
    this.#built = built;
    this.network = place.network;
    this.http = http;
    this.#place = place;
    this.#stop = stop;
    this.#options = options;
    this.#stack = stack;
    const everyMs = Math.min(REPUBLISH_MS, Math.max(MIN_RENEW_MS, options.validForMs / 4));
    this.#timer = setInterval(() => void this.renew(), everyMs);
  }

  /** The generation that is served now. */
  get built(): Built {
    return this.#built;
  }

  /** Joins the network, seeds the NARs of the store behind the gate, and publishes there. */
  static async start(options: PublisherOptions): Promise<Publisher> {
    await using stack = new AsyncDisposableStack();
    const { onWarning } = options;
    const offer = stack.use(await StoreOffer.open(options));
    const network = stack.use(await joinAtLastPort(options, { ...options.network, ...offer.forNetwork, onWarning }));
    await network.openDht();
    const publisher = await Publisher.attach(options, { network, offer });
    await publisher.announce();
    const owned = stack.move();
    publisher.#stack.defer(() => owned.disposeAsync());
    return publisher;
  }

  /** Publishes where somebody else has joined the network and seeds the NARs; {@link announce} is next. */
  static async attach(options: PublisherOptions, place: PublisherPlace): Promise<Publisher> {
    await using stack = new AsyncDisposableStack();
    const { network, offer } = place;
    const stop = new AbortController();
    const { listen } = options.network;
    const own =
      // The zone of an address of the link means nothing to others; who is on the link finds it by multicast.
      listen === undefined || listen === '0.0.0.0' || listen === '::' || listen.includes('%')
        ? []
        : [formatEndpoint({ host: listen, port: network.swarm.port })];
    const signal = AbortSignal.any([options.signal, stop.signal]);
    const withOwn = { ...options, signal, hints: [...options.hints, ...own], peerPort: network.swarm.port };
    // Before anything is signed, and a new key saved: a port that is in use makes the command fail.
    const http = stack.use(
      await IndexServer.listen(publishedDir(options.store, options.salt), {
        host: listen,
        ports: options.httpPorts,
        // publishing is public, and the mirror is asked for by address: the scope can keep it on the local network
        networks: network.networks,
        serves: options.network.scope === 'cohort' || options.network.scope === 'public' ? 'anyone' : 'lan',
      }),
    );
    const built = await buildPublication(withOwn);
    await offer.catalogue.refresh();
    offer.maps.add(built.publication.address, built.publication);
    const owned = new AsyncDisposableStack();
    const started = new Publisher(built, http, place, stop, withOwn, owned);
    stack.defer(() => clearInterval(started.#timer));
    network.joinCohort(cohortInfoHash(options.key.publicKey, options.salt));
    network.discovery.follow(built.publication.torrent.infoHash); // so that any client finds the index by its pointer
    const parts = stack.move();
    owned.defer(() => parts.disposeAsync());
    return started;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    await this.#stack.disposeAsync();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Publishes again, and in any case puts the pointer into the DHT, whose nodes forget it. */
  async renew(): Promise<void> {
    if (this.#building !== undefined) return; // hashing may take longer than the pause between two
    await this.rebuild();
    await this.announce();
  }

  /**
   * Makes the map anew: what was added to the store since, a new signature where half its life has passed.
   *
   * @returns false where that failed, which is a warning: the last generation stays
   */
  async rebuild(): Promise<boolean> {
    while (this.#building !== undefined) await this.#building; // it may be of what the store held before
    this.#building = this.#build().finally(() => (this.#building = undefined));
    return this.#building;
  }

  async #build(): Promise<boolean> {
    const { signal, onWarning, onRenewed } = this.#options;
    if (signal.aborted) return false;
    try {
      const built = await buildPublication(this.#options);
      await this.#place.offer.catalogue.refresh();
      // It need not be of this process: an update may have written it a moment ago.
      const isNews = built.publication.torrent.infoHash !== this.#built.publication.torrent.infoHash;
      this.#built = built;
      this.#place.offer.maps.add(built.publication.address, built.publication);
      if (isNews) {
        this.network.discovery.follow(built.publication.torrent.infoHash);
        onRenewed?.(built);
      }
    } catch (error) {
      if (signal.aborted) return false;
      onWarning(`the hash map could not be renewed, the last one stays: ${(error as Error).message}`);
      return false;
    }
    return true;
  }

  /** Puts the pointer into the DHT, which may take as long as it takes to find the DHT. */
  async announce(): Promise<void> {
    const { signal, key, onWarning } = this.#options;
    try {
      const dht = await this.network.openDht();
      if (dht === undefined || signal.aborted) return;
      await dht.ready({ signal });
      this.dhtNodes = await announcePublication(this.built.publication, key, dht);
      if (this.dhtNodes === 0)
        onWarning('no DHT node took the pointer to the hash map: is --dht-bootstrap right, does UDP pass?');
    } catch (error) {
      if (!signal.aborted)
        onWarning(`cannot put the pointer to the hash map into the DHT: ${(error as Error).message}`);
    }
  }
}

/**
 * Joins the network. Unless a port was named, the one that the last generation of the map names comes before all others
 * of its kind: another port would make another generation of a map in which nothing else has changed.
 */
export async function joinAtLastPort(
  { store, key, salt }: Pick<PublisherOptions, 'store' | 'key' | 'salt'>,
  network: NetworkOptions,
): Promise<Network> {
  const last = (await lastManifest(store, key, salt, new Date()))?.peerPort;
  if (last === undefined) return Network.join(network);
  const { ports = [0] } = network;
  const others = ports.filter((port) => port !== last);
  const again = ports.includes(last) ? [last, ...others] : others.flatMap((port) => (port === 0 ? [last, 0] : [port]));
  return Network.join({ ...network, ports: again });
}
