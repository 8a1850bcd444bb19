/**
 * The bounds on what strangers can make this process hold or do, in one place: units in the names, the reason beside each.
 */

/** Nodes that are taken from, and given in, one answer of the DHT (BEP 5: the 8 nearest). */
export const MAX_DHT_NODES = 8;
/** Peers that are taken from, and given in, one answer of the DHT: more do not fit a packet. */
export const MAX_DHT_VALUES = 100;
/** Queries for one target within {@link DHT_TARGET_MS}: a search among millions of nodes asks about a hundred. */
export const MAX_DHT_QUERIES_PER_TARGET = 256;
export const DHT_TARGET_MS = 30_000;
/** Targets whose queries are counted at a time. */
export const MAX_DHT_TARGETS = 1024;
/** DHT packets that are read a second, from everybody and from one network of 256 addresses; bursts are longer. */
export const DHT_PACKETS_PER_SECOND = { total: 1000, perRange: 200, burst: 4000, burstPerRange: 2000 };
