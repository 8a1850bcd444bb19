/**
 * How large a hash map may be. A publisher is a stranger to its followers: nothing that it signs may take more memory than
 * these allow. Whoever publishes is held to the same.
 */

const MIB = 1024 * 1024;

/** Bytes of a manifest: three times what the most shards need. */
export const MAX_MANIFEST_BYTES = 8 * MIB;
/** Named roots. */
export const MAX_ROOTS = 10_000;
/** `host:port` hints. */
export const MAX_PEERS = 256;
export const MAX_TRACKERS = 64;
/** Characters of a host in a hint (RFC 1035). */
export const MAX_HOST_LENGTH = 253;
/** Characters of a tracker's URL. */
export const MAX_URL_LENGTH = 2048;
/** From `created` to `expires`. */
export const MAX_VALID_FOR_MS = 10 * 366 * 86_400_000;
/** Records of all shards together. */
export const MAX_RECORDS = 500_000;
/** Bytes of a compressed shard: 724 records, as many as there are on average at most, have 0.4 MB. */
export const MAX_SHARD_BYTES = 16 * MIB;
/** Bytes of a shard's text. */
export const MAX_SHARD_TEXT_BYTES = 32 * MIB;
/** Bytes of all compressed shards together: some 250,000 records. */
export const MAX_MAP_BYTES = 128 * MIB;
/** Bytes of shards that one map is being looked up in, as text; more are read again from the disk. */
export const MAX_OPEN_TEXT_BYTES = 64 * MIB;
export const MAX_PORT = 65_535;
