/**
 * A node of the BitTorrent DHT (BEP 5) that also holds mutable items (BEP 44), such as the infohash of a publisher's
 * newest hash map (BEP 46). The only file that knows bittorrent-dht.
 *
 * It corrects these faults of the library (11.0.12, k-rpc-socket 1.11.1):
 * - One packet of four bytes makes its bencode decoder loop for ever, and a field of the wrong type throws inside its
 *   UDP handler, which ends the process. So every packet passes {@link GuardedSocket} first.
 * - A publisher does not hold its own item, and a second put of one seq fails with 302.
 * - Tokens are kept for five minutes, so a put goes to nodes that are gone. Each put and announce asks again first.
 * - A failed bind is a mere warning unless its cause is EADDRINUSE or EACCES.
 * - It answers with all nodes that it knows, and accepts any number of nodes and queries from others.
 * - Operations never call back if the node is destroyed. Every operation here ends at its deadline or with `close`.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import bencode from 'bencode';
import { Client } from 'bittorrent-dht';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import { GuardedSocket } from './dht-guard.ts';
import { formatEndpoint, isPort, type Endpoint } from './endpoint.ts';
import { ForeignAddresses, isLoopback } from './foreign-addresses.ts';
import { isEqual, isSignedBy, MutableAnswers, signedMessage, targetOf } from './mutable-item.ts';
import type { MutableItem, MutablePut } from './mutable-item.ts';
import { PUBLIC_NODES } from './public-nodes.ts';

export interface DhtOptions {
  /** IPv4 address to bind. Default: `0.0.0.0`, every interface. */
  readonly host?: string;
  /** UDP port to bind. Default: 0, any free one. */
  readonly port?: number;
  /** Nodes to ask first. `[]` asks nobody, for the first node of a network. Default: the public routers. */
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

/** Bounds of an operation. At `timeoutMs` it ends with its results so far; `signal` makes it reject with its reason. */
export interface DhtOperationOptions {
  /** Default: 30,000. A look-up among public nodes takes 5 to 15 s, since many of them are gone. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_SETTLE_MS = 300;

/** Bounds of a search for an item. */
export interface MutableGetOptions extends DhtOperationOptions {
  /**
   * Time to wait for a newer item once one was found, instead of waiting for every missing node (2 s each). Default:
   * 300.
   */
  readonly settleMs?: number;
  /** An item below this seq does not end the search early. */
  readonly lowestSeq?: number;
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
  /** Functions that end the running operations. */
  readonly #running = new Set<() => void>();
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
    await this.#until(options, (done) => (this.#dht.ready ? done() : this.#dht.once('ready', done)));
    return this.nodeCount() > 0;
  }

  /**
   * Returns the item with the highest seq, among this node's own and the answers of nodes near the key (BEP 44).
   * Undefined if nobody has one, or if nobody answered; {@link nodeCount} tells which.
   *
   * @throws NarswarmError `USAGE` for a key or salt of the wrong size
   */
  async getMutable(
    publicKey: Uint8Array,
    salt: Uint8Array,
    options: MutableGetOptions = {},
  ): Promise<MutableItem | undefined> {
    const { settleMs = DEFAULT_SETTLE_MS, lowestSeq = 0 } = options;
    return (await this.#find(publicKey, salt, { ...options, settleMs, lowestSeq })).newest;
  }

  /**
   * Signs and stores `{ih}` (BEP 46), here and at the nodes nearest to the key. Repeat it every hour: nodes may drop an
   * item after two.
   *
   * @returns the least number of other nodes that now hold it; 0 if none could be reached
   * @throws NarswarmError `INDEX_ROLLBACK` if the DHT has a higher seq, or this seq with another value; `KEY_INVALID`
   *   if the signature does not fit the key; `USAGE` for a key or salt of the wrong size, or a seq that is not an
   *   integer
   */
  async putMutable(item: MutablePut, options: DhtOperationOptions = {}): Promise<{ nodes: number }> {
    const { publicKey, salt, seq } = item;
    const target = targetOf(publicKey, salt);
    if (!Number.isSafeInteger(seq))
      throw new NarswarmError('USAGE', `the seq of an item must be an integer, not ${seq}`);
    const endsAt = Date.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const v = { ih: Buffer.from(item.infoHash, 'hex') };
    const value = bencode.encode(v);
    const message = signedMessage(salt, seq, value);
    const stored = {
      k: Buffer.from(publicKey),
      salt: salt.length > 0 ? Buffer.from(salt) : undefined,
      seq,
      v,
      sig: Buffer.from(item.sign(message)),
      id: this.#dht.nodeId,
    };
    if (!isSignedBy(stored.sig, message, stored.k)) {
      throw new NarswarmError('KEY_INVALID', 'the signature of the item does not fit its public key');
    }

    const { newest, holders } = await this.#find(publicKey, salt, options);
    if (newest !== undefined && (newest.seq > seq || (newest.seq === seq && !isEqual(newest.value, value)))) {
      const what = newest.seq > seq ? `seq ${newest.seq}` : 'another value with that seq';
      const refusal = `cannot publish seq ${seq}: the DHT already has ${what}; publish with a higher one`;
      throw new NarswarmError('INDEX_ROLLBACK', refusal, { facts: { seq, newestSeq: newest.seq } });
    }
    this.#dht._values.set(target.toString('hex'), stored);
    let takers = 0;
    await this.#until({ ...options, timeoutMs: endsAt - Date.now() }, (done) => {
      this.#dht.put(stored, (_error, _key, nodes = 0) => {
        takers = nodes;
        done();
      });
    });
    // A node that already held it accepts it again (libtorrent) or answers 302 (bittorrent-dht): the two may overlap.
    return { nodes: Math.max(takers, newest?.seq === seq ? holders : 0) };
  }

  /**
   * Tells the nodes nearest to `infoHash` that this host serves it on TCP `port` (BEP 5). Repeat it every 15 to 30
   * minutes.
   *
   * @returns the number of nodes that accepted; 0 if none could be reached
   * @throws NarswarmError `USAGE` for an invalid port
   */
  async announce(infoHash: InfoHash, port: number, options: DhtOperationOptions = {}): Promise<{ nodes: number }> {
    // The library takes 0 for its own UDP port.
    if (!isPort(port)) throw new NarswarmError('USAGE', `${port} is not a valid port to announce`);
    const endsAt = Date.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    await this.#until(options, (done) => this.#dht.lookup(infoHash, done));
    let takers = 0;
    await this.#until({ ...options, timeoutMs: endsAt - Date.now() }, (done) => {
      this.#dht.announce(infoHash, port, (_error, nodes = 0) => {
        takers = nodes;
        done();
      });
    });
    return { nodes: takers };
  }

  /**
   * Asks for the peers of `infoHash` (BEP 5), and reports each once, as soon as it is found. This host may be among
   * them. They are claims of strangers. An error of `onPeer` ends the look-up and is thrown.
   *
   * @returns the number of reported peers
   */
  async lookup(
    infoHash: InfoHash,
    options: DhtOperationOptions & { readonly onPeer: (peer: Endpoint) => void },
  ): Promise<number> {
    const seen = new Set<string>();
    let failure: { readonly cause: unknown } | undefined;
    let abort: (() => void) | undefined;
    let onPeer: ((peer: Endpoint, of: Buffer) => void) | undefined;
    try {
      await this.#until(options, (done) => {
        onPeer = ({ host, port }, of) => {
          const text = formatEndpoint({ host, port });
          if (failure !== undefined || of.toString('hex') !== infoHash || seen.has(text)) return;
          seen.add(text);
          try {
            options.onPeer({ host, port });
          } catch (cause) {
            failure = { cause };
            done();
          }
        };
        this.#dht.on('peer', onPeer);
        abort = this.#dht.lookup(infoHash, done);
      });
    } finally {
      abort?.();
      if (onPeer !== undefined) this.#dht.off('peer', onPeer);
    }
    if (failure !== undefined) throw failure.cause;
    return seen.size;
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
    for (const end of this.#running) end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #find(publicKey: Uint8Array, salt: Uint8Array, options: MutableGetOptions): Promise<MutableAnswers> {
    const target = targetOf(publicKey, salt);
    let settle: (() => void) | undefined;
    const found = new MutableAnswers(publicKey, salt, (seq) => {
      if (seq >= (options.lowestSeq ?? 0)) settle?.();
    });
    const held = this.#dht._values.get(target.toString('hex'));
    if (held !== undefined) {
      found.take(held.sig, signedMessage(salt, held.seq ?? 0, bencode.encode(held.v)), held.k);
      found.holders = 0; // other nodes are counted
    }
    const get = { salt: salt.length > 0 ? Buffer.from(salt) : undefined, cache: false, verify: found.take };
    let settling: NodeJS.Timeout | undefined;
    await this.#until(options, (done) => {
      if (options.settleMs !== undefined) settle = () => (settling ??= setTimeout(done, options.settleMs));
      this.#dht.get(target, get, done);
    });
    clearTimeout(settling);
    return found;
  }

  /** Starts a call of the library, and waits for it, its deadline or `close`. */
  async #until(options: DhtOperationOptions, start: (done: () => void) => unknown): Promise<void> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    signal?.throwIfAborted();
    if (this.#closing !== undefined || timeoutMs <= 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = (): void => resolve();
    const timer = setTimeout(end, timeoutMs);
    this.#running.add(end);
    signal?.addEventListener('abort', end);
    try {
      start(end);
      await promise;
    } finally {
      clearTimeout(timer);
      this.#running.delete(end);
      signal?.removeEventListener('abort', end);
    }
    signal?.throwIfAborted();
  }
}
