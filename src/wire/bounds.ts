/**
 * Every bound on what strangers can make this process hold or do, in one place: units in the names, the reason beside
 * each. With all of them reached at once a process stays below 1 GB, which is where MemoryHigh is in nix/units.json.
 */
/** Connections of all peers together, incoming and outgoing; less where the process may open fewer files. */
export const MAX_CONNECTIONS = 2000;
/** Incoming connections of one host of the local network: a client may need one for each torrent that it fetches. */
export const MAX_CONNECTIONS_PER_NEIGHBOUR = 600;
/** Incoming connections of one address of the internet, or of one IPv6 network of 64 bits. */
export const MAX_CONNECTIONS_PER_STRANGER = 64;
/** A stranger who has connected and not finished his handshake after so long is disconnected. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Encrypted handshakes that are answered a second: each costs a Diffie-Hellman exchange of half a millisecond. */
export const MSE_HANDSHAKES_PER_SECOND = { total: 100, perRange: 50, burst: 400, burstPerRange: 200 };
/** A connection that we open is given up if it is not made after so long. */
export const CONNECT_TIMEOUT_MS = 5_000;

/** The longest block that is asked for or served: 128 KiB between two narswarms, 16 KiB with everybody else. */
export const MAX_BLOCK_BYTES = 128 * 1024;
/** The longest message of the peer protocol: a long block with its head. A bitfield of it has a million pieces. */
export const MAX_MESSAGE_BYTES = MAX_BLOCK_BYTES + 64;
/** The longest message of an extension (BEP 10) that is bencoded: handshakes, and metadata in 16 KiB with a head. */
export const MAX_BENCODED_BYTES = 32 * 1024;
/** Handshakes of extensions from one peer: it may send another when something has changed (BEP 10). */
export const MAX_EXTENDED_HANDSHAKES = 8;
/** Pieces of a torrent whose metadata is not known yet. */
export const MAX_PIECES = 2 ** 20;
/** Metadata of a torrent (BEP 9): 2 MiB describe a hash map of 1.6 GB in pieces of 16 KiB. */
export const MAX_METADATA_BYTES = 2 * 1024 * 1024;
/** The longest piece of a torrent that is read by its infohash alone: hash maps have 16 KiB. */
export const MAX_READ_PIECE_BYTES = 1024 * 1024;
/** Pieces of such a torrent: WebTorrent makes an object of each at once. */
export const MAX_READ_PIECES = 16_384;
/** Bytes of its files, which wait in memory: hash maps have at most 136 MiB. */
export const MAX_READ_BYTES = 160 * 1024 * 1024;
/** Peers of one torrent that are asked for its metadata at a time: each takes memory for all of it. */
export const MAX_METADATA_SOURCES = 4;
/** A peer that was asked for metadata and has not delivered all of it after so long makes room for another. */
export const METADATA_PATIENCE_MS = 3_000;

/** Bytes of one peer that are read from the disk or wait for its socket: enough to keep a fast socket busy. */
export const MAX_UNSENT_PER_PEER_BYTES = 512 * 1024;
/** The same of all peers together. Beyond it peers wait for each other, and those that do not read are cut off. */
export const MAX_UNSENT_BYTES = 96 * 1024 * 1024;
/** While memory is short, a peer that has taken nothing of what waits for it for so long is cut off. */
export const UNREAD_MS = 2_000;
/** Requests of one peer that wait: libtorrent asks for 500 blocks at once, and 2,000 at most. */
export const MAX_OPEN_REQUESTS = 2048;
/** What we tell peers to have open at a time (`reqq`), and the most that we have open at one: 8 MiB. */
export const ANNOUNCED_OPEN_REQUESTS = 512;
/** The same at a peer that tells nothing (BEP 10). */
export const DEFAULT_OPEN_REQUESTS = 250;
/** Requests that a peer turns down in a row before it counts as one that has nothing to give. */
export const MAX_REFUSALS = 16;
/** Payload of one peer that nobody asked for; blocks may be on their way when their request is taken back. */
export const MAX_UNASKED_BYTES = 1024 * 1024;
/** Small answers (rejects, metadata) are beyond the window; no client that reads leaves so many of them unread. */
export const MAX_UNREAD_ANSWERS_BYTES = 4 * 1024 * 1024;

/** Prefixes of files in one message of the exchange: 32 KiB of them. */
export const MAX_PREFIXES_PER_MESSAGE = 4096;
/** Files that one member may look for and we lack, and the same of all together: some 100 bytes each. Beyond it members are
 * told what is here now, and not what comes later. */
export const MAX_WANTS = 32_768;
export const MAX_ALL_WANTS = 400_000;
/** Bytes of one DATA message of the exchange: a sign of life every second on a line of 1 Mbit/s. */
export const MAX_DATA_BYTES = 128 * 1024;
/** Ranges among which a member may let us choose. */
export const MAX_ANY_CANDIDATES = 128;
/** Narinfos in one question, the longest of them, and all of them together: a thousand references take 64 KiB. */
export const MAX_NARINFOS_PER_MESSAGE = 256;
export const MAX_EXCHANGE_NARINFO_BYTES = 128 * 1024;
export const MAX_NARINFO_ANSWER_BYTES = 4 * 1024 * 1024;
/** Bytes of messages from one member that nobody here reads: those of later versions, and of BEP 3. */
export const MAX_IGNORED_BYTES = 1024 * 1024;

/** Connections to the HTTP mirror of a hash map, from everybody together. */
export const MAX_HTTP_CONNECTIONS = 256;
/** The same from one host: a browser opens 6, undici as many as it is told; a NAT hides a few machines. */
export const MAX_HTTP_CONNECTIONS_PER_HOST = 32;
/** Requests of one HTTP connection that wait for their answer: they are answered one after another. */
export const MAX_HTTP_REQUESTS_WAITING = 100;
/** A piece of a file that is read for one HTTP answer at a time; the next is read when the socket has taken it. */
export const HTTP_CHUNK_BYTES = 64 * 1024;
/** An HTTP client that takes not a byte for so long, or sends no request, is disconnected. */
export const HTTP_IDLE_MS = 30_000;

/** Peers that are remembered, over all swarms. */
export const MAX_PEERS = 2000;
/** The same of one host: several processes of one machine, or machines behind one NAT. */
export const MAX_PEERS_PER_HOST = 64;
/** Hosts that are remembered to have lied. */
export const MAX_BANNED_HOSTS = 4096;

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
/** Announcements of the LAN that are read a second: 500 machines answer a newcomer within half a second. */
export const LAN_PACKETS_PER_SECOND = { total: 200, perRange: 20, burst: 1000, burstPerRange: 100 };
