/**
 * A node of the BitTorrent DHT (BEP 5) that also holds mutable items (BEP 44), such as the infohash of a publisher's
 * newest hash map (BEP 46). With `dht-items.ts` and `dht-peers.ts` the only file that knows bittorrent-dht.
 *
 * It corrects these faults of the library (11.0.12, k-rpc-socket 1.11.1):
 * - One packet of four bytes makes its bencode decoder loop for ever, and a field of the wrong type throws inside its
 *   UDP handler, which ends the process. So every packet passes {@link GuardedSocket} first.
 * - Tokens are kept for five minutes, so a put goes to nodes that are gone. Each put and announce asks again first.
 * - A failed bind is a mere warning unless its cause is EADDRINUSE or EACCES.
 * - It answers with all nodes that it knows, and accepts any number of nodes and queries from others.
 * - Operations never call back if the node is destroyed: see {@link DhtOperations}.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { Client } from 'bittorrent-dht';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import { GuardedSocket } from './dht-guard.ts';
import { DhtItems, type MutableGetOptions } from './dht-items.ts';
import { DhtOperations, type DhtOperationOptions } from './dht-operations.ts';
import { DhtPeers, type PeersLookupOptions } from './dht-peers.ts';
import { formatEndpoint, type Endpoint } from './endpoint.ts';
import { ForeignAddresses, isLoopback } from './foreign-addresses.ts';
import { isSignedBy, type MutableItem, type MutablePut } from './mutable-item.ts';
import { PUBLIC_NODES } from './public-nodes.ts';

export interface DhtOptions {
  /** IPv4 address to bind. Default: `0.0.0.0`, every interface. */
  readonly host?: string;
  /** UDP port to bind. Default: 0, any free one. */
  readonly port?: number;
  /** Nodes to ask first. `[]`: none, for the first node of a network. Default: the public routers. */
  readonly bootstrap?: readonly Endpoint[];
  /** Limit on held peers that others announced, over all infohashes, 100 bytes each. Default: 10,000. */
  readonly maxPeersStored?: number;
  /**
   * Decides which addresses named by other nodes are accepted. Default: none that lead to this machine, unless `host`
   * or a node of `bootstrap` is on loopback.
   */
  readonly addresses?: ForeignAddresses;
  /** Time after which a node counts as silent. Default: 2000. */
  readonly queryTimeoutMs?: number;
}

/**
 * Lifetime of announced peers. BEP 5 sets none, and clients announce every 15 to 30 minutes. The library would keep
 * peers for ever.
 */
const PEER_LIFE_MS = 45 * 60_000;

/** One DHT node. Like every node, it asks others, and holds items and peers for others in memory. */
export class DhtNode implements AsyncDisposable {
  /** Its UDP port. */
  readonly port: number;
  readonly #dht: Client;
  readonly #operations = new DhtOperations();
  readonly #items: DhtItems;
  readonly #peers: DhtPeers;
  #closing: Promise<void> | undefined;

  private constructor(udp: Socket, options: DhtOptions) {
    const onLoopback = [options, ...(options.bootstrap ?? [])].some(({ host }) => isLoopback(host ?? ''));
    const socket = new GuardedSocket(udp, options.addresses ?? new ForeignAddresses({ onLoopback }));
    this.port = udp.address().port;
    this.#dht = new Client({
      socket,
      verify: isSignedBy,
      maxAge: PEER_LIFE_MS,
      maxPeers: options.maxPeersStored ?? 10_000,
      timeout: options.queryTimeoutMs ?? 2000,
      bootstrap: (options.bootstrap ?? PUBLIC_NODES).map(({ host, port }) => ({ host, port })),
    });
    this.#dht.setMaxListeners(0);
    this.#items = new DhtItems(this.#dht, this.#operations);
    this.#peers = new DhtPeers(this.#dht, this.#operations);
    socket.emit('listening');
  }

  /**
   * Binds the port and begins to look for nodes; {@link ready} waits for that.
   *
   * @throws NarswarmError `LISTEN_FAILED` if the address or port is not available.
   */
  static async listen(options: DhtOptions = {}): Promise<DhtNode> {
    const { host = '0.0.0.0', port = 0 } = options;
    const udp = createSocket('udp4');
    try {
      udp.bind(port, host);
      await once(udp, 'listening');
    } catch (cause) {
      udp.close();
      const address = formatEndpoint({ host, port });
      const message = `the DHT cannot listen on UDP ${address}: the port is in use, or the address is not of this machine`;
      throw new NarswarmError('LISTEN_FAILED', message, { cause, facts: { host, port } });
    }
    return new DhtNode(udp, options);
  }

  /** Waits for the first search for nodes. Returns true if another node is known by then. */
  async ready(options: DhtOperationOptions = {}): Promise<boolean> {
    await this.#operations.until(options, (done) => (this.#dht.ready ? done() : this.#dht.once('ready', done)));
    return this.nodeCount() > 0;
  }

  /** Returns the newest mutable item of a key ({@link DhtItems.get}). */
  getMutable(publicKey: Uint8Array, salt: Uint8Array, options?: MutableGetOptions): Promise<MutableItem | undefined> {
    return this.#items.get(publicKey, salt, options);
  }

  /** Signs and stores a mutable item ({@link DhtItems.put}). */
  putMutable(item: MutablePut, options?: DhtOperationOptions): Promise<{ nodes: number }> {
    return this.#items.put(item, options);
  }

  /** Announces that this host serves a torrent ({@link DhtPeers.announce}). */
  announce(infoHash: InfoHash, port: number, options?: DhtOperationOptions): Promise<{ nodes: number }> {
    return this.#peers.announce(infoHash, port, options);
  }

  /** Searches the peers of a torrent ({@link DhtPeers.lookup}). */
  lookup(infoHash: InfoHash, options: PeersLookupOptions): Promise<number> {
    return this.#peers.lookup(infoHash, options);
  }

  /** Returns the number of nodes in the routing table; 0 means isolated. */
  nodeCount(): number {
    return this.#dht.nodes.count();
  }

  /** Returns the nodes of the routing table, for example to bootstrap from next time. */
  nodes(): Endpoint[] {
    return this.#dht.nodes.toArray().map(({ host, port }) => ({ host, port }));
  }

  /** Pings a node, and adds it to the routing table if it answers. */
  addNode({ host, port }: Endpoint): void {
    this.#dht.addNode({ host, port });
  }

  /** Frees the port. Running operations end with their results so far; later ones find nothing. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => this.#dht.destroy(resolve));
    this.#operations.end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
