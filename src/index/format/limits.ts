/**
 * Limits on the size of a hash map. Publishers are strangers to their followers: nothing that they sign may take more
 * memory than this. The limits apply to publishing, too.
 */

const MIB = 1024 * 1024;

/** Bytes of a manifest: twice what the largest number of roots needs. */
export const MAX_MANIFEST_BYTES = 8 * MIB;
/** Number of named roots. */
export const MAX_ROOTS = 10_000;
/** Number of `host:port` hints. */
export const MAX_PEERS = 256;
export const MAX_TRACKERS = 64;
/** Characters of a host in a hint (RFC 1035). */
export const MAX_HOST_LENGTH = 253;
/** Characters of a tracker's URL. */
export const MAX_URL_LENGTH = 2048;
/** Time from `created` to `expires`. */
export const MAX_VALID_FOR_MS = 10 * 366 * 86_400_000;
/** Records of all shards together. */
export const MAX_RECORDS = 1_200_000;
/** Bytes of a compressed shard. The largest average, 724 records, takes 0.4 MB. */
export const MAX_SHARD_BYTES = 16 * MIB;
/** Bytes of a shard's text. */
export const MAX_SHARD_TEXT_BYTES = 32 * MIB;
/** Bytes of a list of shards, decompressed. */
export const MAX_LIST_TEXT_BYTES = 4 * MIB;
/** Bytes of text of the lists that are read of one edition: they stay in memory. 1,000 roots of 30 shards have a third. */
export const MAX_LISTS_TEXT_BYTES = 16 * MIB;
/** Shards in a list. */
export const MAX_LISTED_SHARDS = 16_384;
/** Shards that a shard is made from. */
export const MAX_SOURCES = 16;
/** Bytes of all compressed shards together: about 1,300,000 records. */
export const MAX_MAP_BYTES = 640 * MIB;
/** Bytes of text of the shards in memory, per hash map. Others are read from the disk again. */
export const MAX_OPEN_TEXT_BYTES = 64 * MIB;
export const MAX_PORT = 65_535;
