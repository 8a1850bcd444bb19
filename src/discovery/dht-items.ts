import bencode from 'bencode';
import type { Client } from 'bittorrent-dht';
import { NarswarmError } from '../errors.ts';
import { restOf, type DhtOperationOptions, type DhtOperations } from './dht-operations.ts';
import { isEqual, isSignedBy, MutableAnswers, signedMessage, targetOf } from './mutable-item.ts';
import type { MutableItem, MutablePut } from './mutable-item.ts';

const DEFAULT_SETTLE_MS = 300;

/** Bounds of a search for an item. */
export interface MutableGetOptions extends DhtOperationOptions {
  /** Time to wait for a newer item after the first one was found. Each missing node would take 2 s. Default: 300. */
  readonly settleMs?: number;
  /** An item below this seq does not end the search early. */
  readonly lowestSeq?: number;
}

/**
 * The mutable items of a DHT node (BEP 44). Corrects two faults of the library: a publisher does not hold its own item,
 * and a second put of the same seq fails with 302.
 */
export class DhtItems {
  readonly #dht: Client;
  /** The items that this node gives to others. A private member of the library, which has no other way to add one. */
  readonly #held: Client['_values'];
  readonly #operations: DhtOperations;

  constructor(dht: Client, operations: DhtOperations) {
    this.#dht = dht;
    this.#held = dht._values;
    this.#operations = operations;
  }

  /**
   * Returns the item with the highest seq, among this node's own and the answers of nodes near the key (BEP 44).
   * Undefined if no node has one, or if no node answered; {@link nodeCount} tells which.
   *
   * @throws NarswarmError `USAGE` for a key or salt of the wrong size
   */
  async get(
    publicKey: Uint8Array,
    salt: Uint8Array,
    options: MutableGetOptions = {},
  ): Promise<MutableItem | undefined> {
    const { settleMs = DEFAULT_SETTLE_MS, lowestSeq = 0 } = options;
    return (await this.#find(publicKey, salt, { ...options, settleMs, lowestSeq })).newest;
  }

  /**
   * Signs and stores `{ih}` (BEP 46), here and at the nodes nearest to the key. Repeat it every hour: nodes may drop an
   * item after two hours.
   *
   * @returns the least number of other nodes that now hold it; 0 if none could be reached
   * @throws NarswarmError `INDEX_ROLLBACK` if the DHT has a higher seq, or this seq with another value; `KEY_INVALID`
   *   if the signature does not fit the key; `USAGE` for a key or salt of the wrong size, or a seq that is not an
   *   integer
   */
  async put(item: MutablePut, options: DhtOperationOptions = {}): Promise<{ nodes: number }> {
    const { publicKey, salt, seq } = item;
    const target = targetOf(publicKey, salt);
    if (!Number.isSafeInteger(seq))
      throw new NarswarmError('USAGE', `the seq of an item must be an integer, not ${seq}`);
    const rest = restOf(options);
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
    this.#held.set(target.toString('hex'), stored);
    let takers = 0;
    await this.#operations.until(rest(), (done) => {
      this.#dht.put(stored, (_error, _key, nodes = 0) => {
        takers = nodes;
        done();
      });
    });
    // A node that already held it accepts it again (libtorrent) or answers 302 (bittorrent-dht): the two may overlap.
    return { nodes: Math.max(takers, newest?.seq === seq ? holders : 0) };
  }

  async #find(publicKey: Uint8Array, salt: Uint8Array, options: MutableGetOptions): Promise<MutableAnswers> {
    const target = targetOf(publicKey, salt);
    let settle: (() => void) | undefined;
    const found = new MutableAnswers(publicKey, salt, (seq) => {
      if (seq >= (options.lowestSeq ?? 0)) settle?.();
    });
    const held = this.#held.get(target.toString('hex'));
    if (held !== undefined) {
      found.take(held.sig, signedMessage(salt, held.seq ?? 0, bencode.encode(held.v)), held.k);
      found.holders = 0; // other nodes are counted
    }
    const get = { salt: salt.length > 0 ? Buffer.from(salt) : undefined, cache: false, verify: found.take };
    let settling: NodeJS.Timeout | undefined;
    await this.#operations.until(options, (done) => {
      if (options.settleMs !== undefined) settle = () => (settling ??= setTimeout(done, options.settleMs));
      this.#dht.get(target, get, done);
    });
    clearTimeout(settling);
    return found;
  }
}
