import type { Client } from 'bittorrent-dht';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import { restOf, type DhtOperationOptions, type DhtOperations } from './dht-operations.ts';
import { formatEndpoint, isPort, type Endpoint } from './endpoint.ts';

/** Options of a search for peers. */
export interface PeersLookupOptions extends DhtOperationOptions {
  /** Called once with each peer, as soon as it is found. An error ends the search and is thrown. */
  readonly onPeer: (peer: Endpoint) => void;
}

/** The peers of torrents, as a DHT node finds and announces them (BEP 5). */
export class DhtPeers {
  readonly #dht: Client;
  readonly #operations: DhtOperations;

  constructor(dht: Client, operations: DhtOperations) {
    this.#dht = dht;
    this.#operations = operations;
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
    const rest = restOf(options);
    await this.#operations.until(options, (done) => this.#dht.lookup(infoHash, done));
    let takers = 0;
    await this.#operations.until(rest(), (done) => {
      this.#dht.announce(infoHash, port, (_error, nodes = 0) => {
        takers = nodes;
        done();
      });
    });
    return { nodes: takers };
  }

  /**
   * Asks for the peers of `infoHash` (BEP 5), and reports each once, as soon as it is found. They are claims of
   * strangers. This host may be among them. An error of `onPeer` ends the look-up and is thrown.
   *
   * @returns the number of reported peers
   */
  async lookup(infoHash: InfoHash, options: PeersLookupOptions): Promise<number> {
    const seen = new Set<string>();
    let failure: { readonly cause: unknown } | undefined;
    let abort: (() => void) | undefined;
    let onPeer: ((peer: Endpoint, of: Buffer) => void) | undefined;
    try {
      await this.#operations.until(options, (done) => {
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
}
