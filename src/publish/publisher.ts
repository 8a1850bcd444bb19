import { cohortInfoHash } from '../index/cohort-key.ts';
import { announcePublication, lastManifest, publishedDir, readPublication } from './publication.ts';
import { StoreOffer } from '../serve/store-offer.ts';
import { RateShares } from '../store/rate-shares.ts';
import { Turn } from '../store/turn.ts';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { Network, type NetworkOptions } from '../swarm/network.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { PublicKey } from '../nix/signature.ts';
import { buildPublication, type BuildOptions, type Built } from './build-publication.ts';
import { IndexServer } from './index-server.ts';
import { asError, type Warn } from '../warning.ts';

/** BEP 44 nodes may drop an item after two hours. */
const REPUBLISH_MS = 3_600_000;
/** Shortest time between two renewals, even if the hash map is valid for a shorter time. */
const MIN_RENEW_MS = 1_000;
/** Interval of checks whether another process, such as an update, has written an edition. */
const LOOK_EVERY_MS = 1_000;

export interface PublisherOptions extends BuildOptions {
  /** Keys whose NARs are given to others, besides those of the hash map. Default: none. */
  readonly shareKeys?: readonly PublicKey[];
  readonly network: NetworkOptions;
  /** TCP ports for the hash map over HTTP. The first free one is used; 0 is any. */
  readonly httpPorts: readonly number[];
  readonly onWarning: Warn;
  /** Called with each new edition after the first. */
  readonly onRenewed?: (built: Built) => void;
}

/** The network and store of a publisher. Their creator closes both. */
export interface PublisherPlace {
  readonly network: Network;
  /** The NARs and maps that the network offers to others. */
  readonly offer: StoreOffer;
}

/** A running publisher: offers the hash map to peers, keeps the DHT item alive, serves the hash map over HTTP. */
export class Publisher implements AsyncDisposable {
  readonly network: Network;
  readonly http: IndexServer;
  readonly #options: PublisherOptions;
  readonly #place: PublisherPlace;
  readonly #timer: NodeJS.Timeout;
  readonly #lookTimer: NodeJS.Timeout;
  readonly #stop: AbortController;
  readonly #stack: AsyncDisposableStack;
  #building: Promise<boolean> | undefined;
  /** Resolves when the pointer was first put into the DHT, or could not be put there. */
  #announced: Promise<void> = Promise.resolve();
  #built: Built;
  /** Number of DHT nodes that stored the pointer last time. */
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
    this.#timer = setInterval(() => {
      // Hashing may take longer than the time between two renewals, as may another process that has the turn. The DHT forgets.
      void (this.#building === undefined ? this.rebuild() : this.#announce());
    }, everyMs);
    this.#lookTimer = setInterval(() => {
      if (this.#building === undefined) this.look().catch(() => undefined); // the next renewal says why
    }, LOOK_EVERY_MS);
  }

  /** The edition that is served now. */
  get built(): Built {
    return this.#built;
  }

  /** The group of its followers. */
  get group(): InfoHash {
    return groupOf(this.#built);
  }

  /** Joins the network, seeds the NARs that the gate lets out, and publishes. */
  static async start(options: PublisherOptions): Promise<Publisher> {
    await using stack = new AsyncDisposableStack();
    const { onWarning } = options;
    const offer = stack.use(await StoreOffer.open(options));
    const turn = await Turn.take(options.store, 'seeding'); // for those who ask whether anybody serves the store
    if (turn instanceof Turn) stack.use(turn);
    stack.use(await RateShares.open(options.store, options.network.limits));
    const network = stack.use(await joinAtLastPort(options, { ...options.network, ...offer.forNetwork, onWarning }));
    await network.openDht();
    const publisher = await Publisher.attach(options, { network, offer });
    await publisher.#announced;
    const owned = stack.move();
    publisher.#stack.defer(() => owned.disposeAsync());
    return publisher;
  }

  /** Publishes on a network that was already joined and already seeds the NARs. Does not wait for the DHT. */
  static async attach(options: PublisherOptions, place: PublisherPlace): Promise<Publisher> {
    await using stack = new AsyncDisposableStack();
    const { network, offer } = place;
    const stop = new AbortController();
    const { listen } = options.network;
    const own =
      // The zone of a link-local address means nothing to others. Hosts on the link find this one by multicast.
      listen === undefined || listen === '0.0.0.0' || listen === '::' || listen.includes('%')
        ? []
        : [formatEndpoint({ host: listen, port: network.swarm.port })];
    const signal = AbortSignal.any([options.signal, stop.signal]);
    const withOwn = { ...options, signal, hints: [...options.hints, ...own], peerPort: network.swarm.port };
    // This comes first, before a new key is saved or anything is signed: a port in use makes the command fail.
    const http = stack.use(
      await IndexServer.listen(
        {
          own: publishedDir(options.store, options.salt),
          dirOf: (map) => offer.maps.dirOf(map),
          openPatch: (file) => offer.openPatch(file),
        },
        {
          host: listen,
          ports: options.httpPorts,
          limit: options.network.limits?.upload,
          // The mirror may be served to all who know its address, unless the scope keeps it on the local network.
          networks: network.networks,
          serves: options.network.scope === 'cohort' || options.network.scope === 'public' ? 'anyone' : 'lan',
        },
      ),
    );
    const built = await buildPublication(withOwn);
    await offer.catalogue.refresh();
    offerEdition(place, built);
    const owned = new AsyncDisposableStack();
    const started = new Publisher(built, http, place, stop, withOwn, owned);
    stack.defer(() => started.#clearTimers());
    network.joinCohort(cohortInfoHash(options.key.publicKey, options.salt));
    network.discovery.follow(built.publication.torrent.infoHash); // so any client finds the hash map by its pointer
    const parts = stack.move();
    owned.defer(() => parts.disposeAsync());
    started.#announced = started.#announce();
    return started;
  }

  async close(): Promise<void> {
    this.#clearTimers();
    this.#stop.abort();
    await this.#stack.disposeAsync();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #clearTimers(): void {
    clearInterval(this.#timer);
    clearInterval(this.#lookTimer);
  }

  /**
   * Builds the hash map again, with the paths that were added since. Signs it again after half of its lifetime. Then
   * puts the pointer into the DHT in any case, since nodes forget it. Does not wait for that.
   *
   * @returns false if it failed. That causes a warning, and the last edition stays
   */
  async rebuild(): Promise<boolean> {
    while (this.#building !== undefined) await this.#building; // it may lack the last additions to the store
    this.#building = this.#build().finally(() => {
      this.#building = undefined;
      void this.#announce();
    });
    return this.#building;
  }

  async #build(): Promise<boolean> {
    const { signal, onWarning } = this.#options;
    if (signal.aborted) return false;
    try {
      await this.#take(await buildPublication(this.#options));
    } catch (error) {
      if (signal.aborted) return false;
      onWarning({ kind: 'map-not-renewed', error: asError(error) });
      return false;
    }
    return true;
  }

  /**
   * Takes over the edition that another process has written, about once a second. Only the newest two are kept on the
   * disk: after two more, the one that members heard of from here could not be read any more.
   *
   * @throws the failure to read the edition
   */
  async look(): Promise<void> {
    while (this.#building !== undefined) await this.#building;
    const { store, salt, signal } = this.#options;
    const { address, manifest } = this.#built.publication;
    const now = new Date();
    if (((await lastManifest(store, address, salt, now))?.seq ?? 0) <= manifest.seq) return;
    if (this.#building !== undefined) return;
    this.#building = (async () => {
      await using _ = await Turn.wait(store, 'publishing', { signal }); // no process replaces its files meanwhile
      const publication = await readPublication(store, address, now);
      if (publication !== undefined && publication.manifest.seq > manifest.seq)
        await this.#take({ publication: { ...publication, isNew: true }, leftOut: [], hashedBytes: 0 });
      return true;
    })()
      .catch(() => false) // a renewal says why
      .finally(() => {
        this.#building = undefined;
        void this.#announce();
      });
    await this.#building;
  }

  /** Offers an edition instead of the last one. */
  async #take(built: Built): Promise<void> {
    await this.#place.offer.catalogue.refresh();
    // Another process, such as an update, may have written this edition.
    const isNews = built.publication.torrent.infoHash !== this.#built.publication.torrent.infoHash;
    this.#built = built;
    const before = [...this.#place.offer.maps.infoHashes()];
    offerEdition(this.#place, built);
    const offered = new Set(this.#place.offer.maps.infoHashes());
    for (const old of before) if (!offered.has(old)) this.network.discovery.unfollow(old);
    if (!isNews) return;
    this.network.discovery.follow(built.publication.torrent.infoHash);
    this.#options.onRenewed?.(built);
  }

  /** Puts the pointer into the DHT, once the DHT is found. Never rejects. */
  async #announce(): Promise<void> {
    const { signal, key, onWarning } = this.#options;
    try {
      const dht = await this.network.openDht();
      if (dht === undefined || signal.aborted) return;
      await dht.ready({ signal });
      this.dhtNodes = await announcePublication(this.built.publication, await key.signer(), dht);
      if (this.dhtNodes === 0) onWarning({ kind: 'pointer-not-taken' });
    } catch (error) {
      if (!signal.aborted) onWarning({ kind: 'pointer-not-put', error: asError(error) });
    }
  }
}

function groupOf({ publication: { address } }: Pick<Built, 'publication'>): InfoHash {
  return cohortInfoHash(address.publicKey, address.salt);
}

/** Offers an edition of the hash map to others, and tells the members that follow it. */
function offerEdition({ network, offer }: PublisherPlace, { publication }: Built): void {
  const { address, manifest, torrent } = publication;
  offer.maps.add(address, publication);
  const group = groupOf({ publication });
  network.members.tellEdition({ group, seq: manifest.seq, infoHash: torrent.infoHash });
}

/**
 * Joins the network. Unless a port is named, prefers the port in the last edition of the hash map: another port
 * would make a new edition although nothing else has changed.
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
