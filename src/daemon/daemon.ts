import { isDeepStrictEqual } from 'node:util';
import { inState } from '../store/state-folder.ts';
import { isNarswarmError } from '../errors.ts';
import type { PublisherAddress } from '../index/address.ts';
import { mapFolder, saltBytes } from '../index/address.ts';
import { cohortInfoHash } from '../index/cohort-key.ts';
import { seedGeneration } from '../index/generations.ts';
import { indexDirOf, resolveHashMap } from '../index/resolve.ts';
import type { PublicKey } from '../nix/signature.ts';
import { HttpClient, type HttpClientOptions } from '../http/client.ts';
import { FileStore } from '../store/file-store.ts';
import { StoreOffer } from '../serve/store-offer.ts';
import { writeReplicas } from '../store/replicas.ts';
import { contentsVersion } from '../subscription/published.ts';
import { listStates } from '../subscription/state.ts';
import { countReplicas } from './count-replicas.ts';
import { Network, type NetworkOptions } from '../swarm/network.ts';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { ownHost } from '../discovery/own-address.ts';
import { IndexServer } from '../publish/index-server.ts';
import { joinAtLastPort, Publisher, type PublisherOptions } from '../publish/publisher.ts';
import { asError, type Warn } from '../warning.ts';
import { failureOf, type Failure } from '../failure.ts';

/** How soon a NAR that a fetch has added is seeded. */
const CATALOGUE_MS = 1_000;
/** How often a followed map is looked up; also keeps its DHT item alive (BEP 44: two hours). */
const FOLLOW_MS = 30 * 60_000;
/** While a map was not found yet. */
const FOLLOW_RETRY_MS = 10_000;
const RESOLVE_TIMEOUT_MS = 60_000;
const SHARD_TIMEOUT_MS = 60_000;
/** Pause between two announces of single NARs: ten thousand of them are done within a BEP 5 node's memory. */
const ANNOUNCE_PAUSE_MS = 100;
/** A map that could not be made is tried again after so long, or when something has changed. */
const PUBLISH_AGAIN_MS = 60_000;

/** How soon the copies of what is held are first counted, and how often at the most and the least. */
const COUNT_MS = 5_000;
const COUNT_SELDOM_MS = 30 * 60_000;

/** The map that a daemon publishes. */
export interface OwnMap extends Omit<
  PublisherOptions,
  'store' | 'keys' | 'shareKeys' | 'network' | 'signal' | 'onWarning'
> {
  /** Changes with what the map is of, as far as that is not in the store. Cheap enough to be asked for every second. */
  readonly version?: () => Promise<string>;
}

export interface DaemonOptions {
  readonly store: FileStore;
  readonly keys: readonly PublicKey[];
  /** Those of them whose NARs are given to others. Default: none. */
  readonly shareKeys?: readonly PublicKey[];
  readonly publishers: readonly PublisherAddress[];
  readonly network: NetworkOptions;
  /** How to download. Default: without passwords, by the certificates that Node brings. */
  readonly http?: HttpClientOptions | (() => Promise<HttpClientOptions>) | undefined;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  /** TCP ports for the followed maps over HTTP, if no map of its own is published: the first that is free. Default: none. */
  readonly httpPorts?: readonly number[];
  /** This machine's own hash map, where it publishes one. */
  readonly publish?: OwnMap | undefined;
  /** Publishers to follow besides, asked for every second: subscriptions come and go. */
  readonly alsoFollow?: () => Promise<readonly PublisherAddress[]>;
  /** Told when a generation of a followed map is held in full. */
  readonly onFollowed?: (address: PublisherAddress, generation: Followed) => void;
}

/** A generation of a followed map. */
export interface Followed {
  readonly seq: number;
  readonly records: number;
  /** URL of the map at this daemon's own mirror, if it has one. */
  readonly mirror: string | undefined;
}

/** Seeds a file store, behind the gate, and the hash maps that it follows. */
export class Daemon implements AsyncDisposable {
  readonly network: Network;
  readonly #options: DaemonOptions;
  readonly #offer: StoreOffer;
  readonly #stop = new AbortController();
  readonly #http: HttpClient;
  readonly #timers = new Set<NodeJS.Timeout>();
  #publisher: Publisher | undefined;
  /** Serves the followed maps over HTTP. */
  #mirror: Promise<IndexServer> | undefined;
  /** What the published map was made of, or was tried to be. */
  #publishedOf = '';
  /** When it is tried again though nothing has changed (`performance.now`). */
  #publishAgainAtMs = Infinity;
  readonly #followed = new Set<string>();
  /** Why nothing is published, as it was told last. */
  #hindrance: Failure | undefined;

  private constructor(options: DaemonOptions, network: Network, offer: StoreOffer) {
    this.#options = { ...options, signal: AbortSignal.any([options.signal, this.#stop.signal]) };
    this.network = network;
    this.#http = new HttpClient(options.http);
    this.#offer = offer;
  }

  /** @throws LISTEN_FAILED, STORE_UNWRITABLE */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { store, onWarning, publish } = options;
    const offer = await StoreOffer.open(options);
    const how: NetworkOptions = { ...options.network, ...offer.forNetwork, onWarning };
    await using stack = new AsyncDisposableStack();
    const network = await (publish === undefined ? Network.join(how) : joinAtLastPort({ ...publish, store }, how));
    const daemon = stack.use(new Daemon(options, network, offer));
    await daemon.#publish();
    const looksUp = options.publishers.length > 0 || daemon.publisher !== undefined;
    if (looksUp || options.network.scope === 'public') await network.openDht(); // now, so that a port in use is said
    void daemon.#watchCatalogue();
    void daemon.#checkNars();
    daemon.#later(COUNT_MS, () => daemon.#countReplicas(COUNT_MS));
    if (options.publishers.length > 0) await daemon.#serveMaps();
    for (const address of options.publishers) void daemon.#follow(address);
    if (options.network.scope === 'public') void daemon.#announceNars();
    stack.move();
    return daemon;
  }

  /** This machine's own map, as soon as there is something to publish. */
  get publisher(): Publisher | undefined {
    return this.#publisher;
  }

  /** NARs that were asked for and are known with their pieces. */
  get nars(): number {
    return this.#offer.catalogue.size;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#publisher?.close();
    await (await this.#mirror?.catch(() => undefined))?.close();
    await this.#http.close();
    await this.network.close();
    await this.#offer[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #later(ms: number, work: () => Promise<void>): void {
    if (this.#options.signal.aborted) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void work();
    }, ms);
    this.#timers.add(timer);
  }

  /** Looks into NARs that nobody has looked into yet, so that they can be served. */
  async #checkNars(): Promise<void> {
    const { signal, onWarning } = this.#options;
    try {
      await this.#offer.checker.checkAll(signal);
    } catch (error) {
      if (signal.aborted) return;
      onWarning({ kind: 'failed', error: asError(error) });
    }
    this.#later(CATALOGUE_MS, () => this.#checkNars());
  }

  /** Takes in what fetches add. */
  async #watchCatalogue(): Promise<void> {
    try {
      await this.#offer.catalogue.refresh();
      await this.#publish();
      for (const address of (await this.#options.alsoFollow?.()) ?? []) void this.#follow(address);
    } catch (error) {
      if (this.#options.signal.aborted) return;
      this.#options.onWarning({ kind: 'failed', error: asError(error) });
    }
    this.#later(CATALOGUE_MS, () => this.#watchCatalogue());
  }

  /** Makes this machine's own map, and makes it anew when what it is of has changed. */
  async #publish(): Promise<void> {
    const { store, keys, shareKeys = [], network, signal, onWarning, publish } = this.#options;
    if (publish === undefined) return;
    const version = `${await contentsVersion(store, this.#offer.catalogue)} ${await publish.version?.()}`;
    if (version === this.#publishedOf && performance.now() < this.#publishAgainAtMs) return;
    this.#publishedOf = version;
    this.#publishAgainAtMs = performance.now() + PUBLISH_AGAIN_MS;
    try {
      const contents = await publish.contents();
      const isNothing = contents !== 'everything' && contents.named.size + contents.unnamed.length === 0;
      if (this.#publisher !== undefined && isNothing) {
        this.#offer.maps.remove(this.#publisher.built.publication.address);
        await this.#publisher.close();
        this.#publisher = undefined;
        onWarning({ kind: 'map-withdrawn' });
      }
      if (this.#publisher !== undefined) {
        if (await this.#publisher.rebuild()) this.#publishAgainAtMs = Infinity;
        void this.#publisher.announce(); // what fetches add is not to wait for the DHT
        return;
      }
      const place = { network: this.network, offer: this.#offer };
      this.#publisher = await Publisher.attach(
        { ...publish, store, keys, shareKeys, network, signal, onWarning },
        place,
      );
      this.#publishAgainAtMs = Infinity;
      publish.onRenewed?.(this.#publisher.built);
      void this.#publisher.announce();
    } catch (error) {
      // Before the first update there is nothing to publish.
      if (!isNarswarmError(error, 'NOT_FOUND', 'ROOT_UNKNOWN', 'NARINFO_UNTRUSTED', 'NARINFO_MISSING')) throw error;
      if (!isDeepStrictEqual(failureOf(error), this.#hindrance)) onWarning({ kind: 'failed', error });
      this.#hindrance = failureOf(error);
    }
  }

  /** Follows a publisher from now on, once. */
  async #follow(address: PublisherAddress): Promise<void> {
    const map = mapFolder(address);
    if (this.#followed.has(map)) return;
    this.#followed.add(map);
    await this.#lookUp(address);
  }

  /** @returns the port of the mirror, undefined if there is none. @throws LISTEN_FAILED */
  async #serveMaps(): Promise<number | undefined> {
    const { network, httpPorts, publish } = this.#options;
    if (publish !== undefined) return this.#publisher?.http.port;
    if (httpPorts === undefined) return undefined;
    this.#mirror ??= IndexServer.listen(
      { dirOf: (map) => this.#offer.maps.dirOf(map) },
      {
        host: network.listen,
        ports: httpPorts,
        limit: network.limits?.upload,
        networks: this.network.networks,
        serves: network.scope === 'cohort' || network.scope === 'public' ? 'anyone' : 'lan',
      },
    );
    return (await this.#mirror).port;
  }

  async #lookUp(address: PublisherAddress): Promise<void> {
    const { store, signal, onWarning, onFollowed } = this.#options;
    const dir = inState(store, 'index');
    this.network.joinCohort(cohortInfoHash(address.publicKey, address.salt));
    let found = false;
    try {
      await using resolved = await resolveHashMap(address, {
        network: this.network,
        getBytes: (url, limits) => this.#http.getBytes(url, limits),
        dir,
        now: new Date(),
        timeoutMs: RESOLVE_TIMEOUT_MS,
        shardTimeoutMs: SHARD_TIMEOUT_MS,
        signal,
        onWarning,
      });
      await resolved.map.fetchAll(signal);
      const { seq, recordCount, shards } = resolved.map.manifest;
      const generation = await seedGeneration(store, {
        address,
        seq,
        manifest: resolved.map.manifestBytes,
        shards,
        dir: indexDirOf(dir, address),
      });
      if (this.#offer.maps.add(address, generation)) {
        const port = await this.#serveMaps();
        const host = ownHost(this.#options.network.listen, this.network.networks);
        const mirror =
          port === undefined ? undefined : `http://${formatEndpoint({ host, port })}/maps/${mapFolder(address)}`;
        onFollowed?.(address, { seq, records: recordCount, mirror });
      }
      found = resolved.from === 'network';
      await this.#keepPointerAlive(address);
    } catch (error) {
      if (signal.aborted) return;
      onWarning({ kind: 'failed', error: asError(error) });
    }
    this.#later(found ? FOLLOW_MS : FOLLOW_RETRY_MS, () => this.#lookUp(address));
  }

  /** Puts the publisher's signed pointer into the DHT again: with enough followers it outlives a publisher's night. */
  async #keepPointerAlive(address: PublisherAddress): Promise<void> {
    const { scope } = this.#options.network;
    const dht = scope === 'cohort' || scope === 'public' ? await this.network.openDht() : undefined;
    if (dht === undefined) return;
    const salt = saltBytes(address.salt);
    const item = await dht.getMutable(address.publicKey, salt, { signal: this.#options.signal });
    if (item?.infoHash === undefined) return;
    await dht.putMutable({
      publicKey: address.publicKey,
      salt,
      seq: item.seq,
      infoHash: item.infoHash,
      sign: () => item.signature,
    });
  }

  /** Asks the members which of the held NARs they have, and writes it down for `status` and `gc`. */
  async #countReplicas(afterMs: number): Promise<void> {
    const { store, signal, onWarning } = this.#options;
    try {
      const roots = (await listStates(store)).flatMap(({ generations: [newest] }) => newest?.roots ?? []);
      const replicas = await countReplicas([...new Set(roots)], {
        store,
        catalogue: this.#offer.catalogue,
        members: this.network.members,
        offer: this.#offer.forMembers,
        isOwn: (host) => this.network.networks.isOwn(host),
        now: () => new Date(),
        signal,
      });
      await writeReplicas(store, replicas);
    } catch (error) {
      if (signal.aborted) return;
      onWarning({ kind: 'failed', error: asError(error) });
    }
    const nextMs = Math.min(COUNT_SELDOM_MS, 2 * afterMs);
    this.#later(nextMs, () => this.#countReplicas(nextMs));
  }

  async #announceNars(): Promise<void> {
    const { swarm } = this.network;
    const dht = await this.network.openDht();
    if (dht === undefined) return;
    await dht.ready({ signal: this.#options.signal }).catch(() => false);
    for (const entry of this.#offer.catalogue.entries()) {
      if (this.#options.signal.aborted) return;
      const { torrent } = entry;
      if (torrent !== undefined) await dht.announce(torrent.infoHash, swarm.port).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, ANNOUNCE_PAUSE_MS));
    }
    this.#later(FOLLOW_MS, () => this.#announceNars());
  }
}
