/** Bounds on the contents of DHT messages and on the rate of queries, which bittorrent-dht lacks. */
import {
  DHT_TARGET_MS,
  MAX_DHT_NODES,
  MAX_DHT_QUERIES_PER_TARGET,
  MAX_DHT_TARGETS,
  MAX_DHT_VALUES,
} from '../wire/bounds.ts';
import { isBytes, isDictionary, type Fields } from '../torrent/bencoding.ts';

/** Compact infos of BEP 5: a node is its id and its address, a peer only an address. */
const ID_BYTES = 20;
const ADDRESS_BYTES = 6;
const NODE_BYTES = ID_BYTES + ADDRESS_BYTES;

/**
 * Cuts an answer to the 8 nodes of BEP 5 and as many peers as fit into a packet. The library returns all nodes that it
 * knows, nearest first. But libtorrent drops packets above 1,500 bytes, so a client that asks such a node finds nobody.
 *
 * @param admits returns whether an IPv4 address may stay in the answer
 * @returns the same message if it is already within the bounds
 */
export function boundedAnswer(message: Fields, admits: (host: string) => boolean): Fields {
  const { r } = message;
  if (!isDictionary(r)) return message;
  const nodes = boundedNodes(r['nodes'], admits);
  const values = boundedValues(r['values'], admits);
  if (nodes === r['nodes'] && values === r['values']) return message;
  return {
    ...message,
    r: { ...r, ...(nodes === undefined ? {} : { nodes }), ...(values === undefined ? {} : { values }) },
  };
}

function boundedNodes(nodes: unknown, admits: (host: string) => boolean): unknown {
  if (!isBytes(nodes)) return nodes;
  const all = Array.from({ length: Math.floor(nodes.length / NODE_BYTES) }, (_, index) =>
    nodes.subarray(index * NODE_BYTES, (index + 1) * NODE_BYTES),
  );
  const kept = all.filter((node) => admits(hostIn(node, ID_BYTES))).slice(0, MAX_DHT_NODES);
  return kept.length === all.length ? nodes : Buffer.concat(kept);
}

function boundedValues(values: unknown, admits: (host: string) => boolean): unknown {
  if (!Array.isArray(values)) return values;
  const kept = values
    .filter((value) => !isBytes(value) || value.length !== ADDRESS_BYTES || admits(hostIn(value, 0)))
    .slice(0, MAX_DHT_VALUES);
  return kept.length === values.length ? values : kept;
}

function hostIn(bytes: Uint8Array, at: number): string {
  return bytes.subarray(at, at + 4).join('.');
}

/**
 * Counts the queries for each target. Without a limit, nodes that name ever nearer nodes could prolong a search for
 * ever.
 */
export class QueryCounts {
  readonly #counts = new Map<string, { count: number; sinceMs: number }>();

  /** Returns true if one more query of this kind may be sent for this target, and counts it. */
  admit(query: string, target: Uint8Array): boolean {
    const now = performance.now();
    const key = `${query} ${Buffer.from(target).toString('hex')}`;
    let entry = this.#counts.get(key);
    if (entry === undefined || now - entry.sinceMs > DHT_TARGET_MS) {
      this.#counts.delete(key);
      if (this.#counts.size >= MAX_DHT_TARGETS) this.#forgetOldest();
      this.#counts.set(key, (entry = { count: 0, sinceMs: now }));
    }
    return ++entry.count <= MAX_DHT_QUERIES_PER_TARGET;
  }

  #forgetOldest(): void {
    const [oldest] = this.#counts.keys();
    if (oldest !== undefined) this.#counts.delete(oldest);
  }
}
