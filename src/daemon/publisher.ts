import { isNarswarmError, NarswarmError } from '../errors.ts';
import { cohortInfoHash } from '../index/cohort-key.ts';
import { assertPublished, collectRecords, type Collected } from '../index/collect-records.ts';
import { OfferedGenerations } from '../index/generations.ts';
import { announcePublication, lastPeers, publishIndex, type Publication } from '../index/publication.ts';
import type { PublisherKey } from '../index/publisher-key.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { walkClosure } from '../fetch/closure.ts';
import { firstTrusted, storeSource } from '../fetch/find-narinfo.ts';
import { Catalogue } from '../store/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import { Gate, seedOf } from '../store/gate.ts';
import { LastServed } from '../store/last-served.ts';
import { formatEndpoint, parseEndpoint } from '../torrent/endpoint.ts';
import { Network, type NetworkOptions } from '../torrent/network.ts';
import { IndexServer } from './index-server.ts';

/** BEP 44 nodes may drop an item after two hours. */
const REPUBLISH_MS = 3_600_000;
/** However short a life a map is given, it is not renewed more often. */
const MIN_RENEW_MS = 1_000;

export interface BuildOptions {
  readonly store: FileStore;
  readonly key: PublisherKey;
  readonly salt: string;
  readonly roots: ReadonlyMap<string, StorePath>;
  readonly keys: readonly PublicKey[];
  readonly validForMs: number;
  /** `host:port` of peers to name in the manifest. */
  readonly hints: readonly string[];
  readonly signal: AbortSignal;
}

/** A generation that was built, and what it took. */
export interface Built extends Collected {
  readonly publication: Publication;
}

/**
 * Makes the hash map of the roots' closures, or of all that the store holds, on disk.
 *
 * @throws ROOT_UNKNOWN, NARINFO_MISSING, NARINFO_UNTRUSTED where a root or its closure is not there in full
 */
export async function buildPublication(options: BuildOptions): Promise<Built> {
  const { store, roots, keys, signal } = options;
  const infos =
    roots.size === 0
      ? await everything(store)
      : [
          ...(
            await walkClosure([...roots.values()].map(storeHashOf), firstTrusted([await storeSource(store)], keys), {
              signal,
            })
          ).values(),
        ];
  const collected = await collectRecords(infos, { store, catalogue: await Catalogue.open(store), keys, signal });
  assertPublished(roots, collected);
  if (collected.records.length === 0) {
    const [first] = collected.leftOut;
    const reason = first === undefined ? 'it holds no narinfos' : `${first.storePath}: ${first.reason}`;
    const isUntrusted = first?.reason === 'not signed by a trusted key';
    const wayOut = isUntrusted ? ': name the key that signed it with --trusted-public-key' : '';
    throw new NarswarmError(
      isUntrusted ? 'NARINFO_UNTRUSTED' : 'NOT_FOUND',
      `nothing in ${store.dir} can be published (${reason})${wayOut}`,
      {
        facts: { store: store.dir },
      },
    );
  }
  const publication = await publishIndex({
    store,
    key: options.key,
    salt: options.salt,
    records: collected.records,
    roots: Array.from(roots, ([name, path]) => ({ name, path })),
    peers: options.hints,
    now: new Date(),
    validForMs: options.validForMs,
  });
  return { ...collected, publication };
}

/** Every narinfo of a store that can be read. */
async function everything(store: FileStore): Promise<NarInfo[]> {
  const infos: NarInfo[] = [];
  for (const hash of await store.listStoreHashes()) {
    const info = await store.readNarInfo(hash).catch(() => undefined); // a damaged one is not published
    if (info !== undefined) infos.push(info);
  }
  return infos;
}

export interface PublisherOptions extends BuildOptions {
  readonly network: NetworkOptions;
  readonly httpPort: number | undefined;
  readonly onWarning: (message: string) => void;
  /** Told of each new generation after the first. */
  readonly onRenewed?: (built: Built) => void;
}

/** A publisher at work: seeds the NARs and the index, keeps the DHT item alive, serves the index over HTTP. */
export class Publisher implements AsyncDisposable {
  readonly network: Network;
  readonly http: IndexServer;
  readonly #options: PublisherOptions;
  readonly #catalogue: Catalogue;
  readonly #timer: NodeJS.Timeout;
  readonly #offered: OfferedGenerations;
  readonly #stop: AbortController;
  #renewing = false;
  #built: Built;
  /** DHT nodes that took the pointer the last time. */
  dhtNodes = 0;

  private constructor(
    built: Built,
    network: Network,
    http: IndexServer,
    catalogue: Catalogue,
    offered: OfferedGenerations,
    stop: AbortController,
    options: PublisherOptions,
  ) {
    this.#built = built;
    this.network = network;
    this.http = http;
    this.#catalogue = catalogue;
    this.#offered = offered;
    this.#stop = stop;
    this.#options = options;
    const everyMs = Math.min(REPUBLISH_MS, Math.max(MIN_RENEW_MS, options.validForMs / 4));
    this.#timer = setInterval(() => void this.#renew(), everyMs);
  }

  /** The generation that is served now. */
  get built(): Built {
    return this.#built;
  }

  static async start(options: PublisherOptions): Promise<Publisher> {
    await using stack = new AsyncDisposableStack();
    const { store, keys } = options;
    const catalogue = await Catalogue.open(store);
    const gate = new Gate(store, catalogue, keys);
    const offered = new OfferedGenerations();
    const served = new LastServed(store, options.onWarning);
    const stop = new AbortController();
    const network = stack.use(
      await joinAtLastPort(options, {
        ...options.network,
        onWarning: options.onWarning,
        seeds: served.noting(async (infoHash) => offered.get(infoHash) ?? seedOf(await gate.admit(infoHash))),
        onUpload: served.onUpload,
      }),
    );
    const { listen } = options.network;
    const own =
      listen === undefined || listen === '0.0.0.0' || listen === '::'
        ? []
        : [formatEndpoint({ host: listen, port: network.swarm.port })];
    const signal = AbortSignal.any([options.signal, stop.signal]);
    const withOwn = { ...options, signal, hints: [...options.hints, ...own] };
    const built = await buildPublication(withOwn);
    await catalogue.refresh();
    const http = stack.use(
      await IndexServer.listen(built.publication.dir, {
        host: listen,
        port: options.httpPort,
        // publishing is public, and the mirror is asked for by address: the scope can keep it on the local network
        serves: options.network.scope === 'cohort' || options.network.scope === 'public' ? 'anyone' : 'lan',
      }),
    );
    offered.add(built.publication.address, built.publication);
    const started = new Publisher(built, network, http, catalogue, offered, stop, withOwn);
    stack.defer(() => clearInterval(started.#timer));
    network.joinCohort(cohortInfoHash(options.key.publicKey, options.salt));
    network.discovery.follow(built.publication.torrent.infoHash); // so that any client finds the index by its pointer
    await started.#announce();
    stack.move();
    return started;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    await this.http.close();
    await this.network.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Publishes again: what was added to the store since, a new signature where half the map's life has passed, and in any
   * case the pointer, which DHT nodes forget.
   */
  async #renew(): Promise<void> {
    const { signal, onWarning, onRenewed } = this.#options;
    if (signal.aborted || this.#renewing) return; // hashing may take longer than the pause between two
    this.#renewing = true;
    try {
      const built = await buildPublication(this.#options);
      await this.#catalogue.refresh();
      this.#built = built;
      this.#offered.add(built.publication.address, built.publication);
      if (built.publication.isNew) {
        this.network.discovery.follow(built.publication.torrent.infoHash);
        onRenewed?.(built);
      }
    } catch (error) {
      if (signal.aborted) return;
      onWarning(`the hash map could not be renewed, the last one stays: ${(error as Error).message}`);
    } finally {
      this.#renewing = false;
    }
    await this.#announce();
  }

  async #announce(): Promise<void> {
    const { dht } = this.network;
    const { signal, key, onWarning } = this.#options;
    if (dht === undefined || signal.aborted) return;
    try {
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
 * Joins the network, where the system may pick the port, at the one that the last generation of the map names: another
 * port would make another generation of a map in which nothing else has changed.
 */
async function joinAtLastPort(options: PublisherOptions, network: NetworkOptions): Promise<Network> {
  const { store, key, salt } = options;
  const prefix = `${network.listen ?? ''}:`;
  const own = (await lastPeers(store, key, salt, new Date())).find((peer) => peer.startsWith(prefix));
  if ((network.port ?? 0) !== 0 || own === undefined) return Network.join(network);
  return Network.join({ ...network, port: parseEndpoint(own).port }).catch((error: unknown) => {
    if (isNarswarmError(error, 'LISTEN_FAILED')) return Network.join(network); // somebody else has it now
    throw error;
  });
}
