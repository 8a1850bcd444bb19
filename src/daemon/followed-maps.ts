import { formatEndpoint } from '../discovery/endpoint.ts';
import { ownHost } from '../discovery/own-address.ts';
import type { HttpClient } from '../http/client.ts';
import { mapFolder, type PublisherAddress } from '../index/address.ts';
import type { Manifest } from '../index/manifest.ts';
import type { InfoHash } from '../nix/brands.ts';
import { IndexServer } from '../publish/index-server.ts';
import type { Publisher } from '../publish/publisher.ts';
import type { StoreOffer } from '../serve/store-offer.ts';
import type { Network } from '../swarm/network.ts';
import { unfollow } from '../subscription/unfollow.ts';
import type { DaemonOptions } from './daemon.ts';
import { FollowedMap } from './followed-map.ts';

/** An edition of a followed map. */
export interface Followed {
  readonly seq: number;
  readonly records: number;
  /** URL of the map at this daemon's own mirror, if it has one. */
  readonly mirror: string | undefined;
}

/** The parts of a daemon that its followed maps use. */
interface FollowedMapsMeans {
  readonly network: Network;
  readonly http: HttpClient;
  readonly offer: Pick<StoreOffer, 'maps' | 'openPatch'>;
  /** Returns the publisher of this machine's own map. */
  readonly publisher: () => Publisher | undefined;
}

type FollowedMapsOptions = Pick<
  DaemonOptions,
  'store' | 'publishers' | 'alsoFollow' | 'network' | 'httpPorts' | 'publish' | 'signal' | 'onWarning' | 'onFollowed'
>;

/** The hash maps that a daemon follows, and their mirror over HTTP. */
export class FollowedMaps implements AsyncDisposable {
  readonly #options: FollowedMapsOptions;
  readonly #means: FollowedMapsMeans;
  /** By the names of their folders. */
  readonly #maps = new Map<string, FollowedMap>();
  #mirror: Promise<IndexServer> | undefined;
  #port: number | undefined;

  constructor(options: FollowedMapsOptions, means: FollowedMapsMeans) {
    this.#options = options;
    this.#means = means;
    means.network.members.on('edition', ({ peer }, edition) => {
      for (const map of this.#maps.values()) if (map.group === edition.group) map.onTold(peer, edition);
    });
  }

  get all(): Iterable<FollowedMap> {
    return this.#maps.values();
  }

  /** The port of the mirror. Undefined if there is none. */
  get port(): number | undefined {
    return this.#port;
  }

  /** Returns the publishers to follow now. */
  async wanted(): Promise<PublisherAddress[]> {
    const { publishers, alsoFollow } = this.#options;
    return [...publishers, ...((await alsoFollow?.()) ?? [])];
  }

  /** Starts to follow new publishers, and leaves those that are no longer wanted. */
  async look(): Promise<void> {
    const wanted = await this.wanted();
    for (const address of wanted) this.follow(address);
    const names = new Set(wanted.map(mapFolder));
    for (const [name, map] of this.#maps) {
      if (names.has(name)) continue;
      this.#maps.delete(name);
      map.stop();
      this.#means.offer.maps.remove(map.address);
      await unfollow(this.#options.store, [map.address], wanted);
    }
  }

  /** Starts to follow a publisher, unless it is followed already. */
  follow(address: PublisherAddress): void {
    const name = mapFolder(address);
    if (this.#maps.has(name)) return;
    const { store, signal, onWarning } = this.#options;
    const { network, http, offer } = this.#means;
    const { maps } = offer;
    const onEdition = (manifest: Manifest): Promise<void> => this.#onEdition(address, manifest);
    const map = new FollowedMap(address, { store, network, http, maps, signal, onWarning, onEdition });
    this.#maps.set(name, map);
    for (const [peer, edition] of network.members.editionsOf(map.group)) map.onTold(peer, edition);
    void map.run().then(() => this.#leave(map.group));
  }

  /** Opens the mirror. @returns its port; undefined if there is none. @throws LISTEN_FAILED */
  async serve(): Promise<number | undefined> {
    const { network: how, httpPorts, publish } = this.#options;
    const { network, offer, publisher } = this.#means;
    if (publish !== undefined) return publisher()?.http.port;
    if (httpPorts === undefined) return undefined;
    this.#mirror ??= IndexServer.listen(
      { dirOf: (map) => offer.maps.dirOf(map), openPatch: (file) => offer.openPatch(file) },
      {
        host: how.listen,
        ports: httpPorts,
        limit: how.limits?.upload,
        networks: network.networks,
        serves: network.announces ? 'anyone' : 'lan',
      },
    );
    return (this.#port = (await this.#mirror).port);
  }

  /** Closes the mirror. */
  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#mirror?.catch(() => undefined))?.close();
  }

  /** Leaves a group in which no publisher is followed any longer. */
  #leave(group: InfoHash): void {
    const { network, publisher } = this.#means;
    const isFollowed = [...this.#maps.values()].some((map) => map.group === group);
    if (!isFollowed && publisher()?.group !== group) network.leaveCohort(group);
  }

  async #onEdition(address: PublisherAddress, { seq, recordCount }: Manifest): Promise<void> {
    const port = await this.serve();
    const host = ownHost(this.#options.network.listen, this.#means.network.networks);
    const mirror =
      port === undefined ? undefined : `http://${formatEndpoint({ host, port })}/maps/${mapFolder(address)}`;
    this.#options.onFollowed?.(address, { seq, records: recordCount, mirror });
  }
}
