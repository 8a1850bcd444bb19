/**
 * All limits on memory and work that strangers can cause in this process. Units are in the names, reasons in the
 * comments. A process at all limits at once stays below 1 GB, the MemoryHigh of nix/units.json.
 */
/** Connections of all peers together, incoming and outgoing; fewer if the process may open fewer files. */
export const MAX_CONNECTIONS = 2000;
/**
 * Incoming connections of one host of the local network. A client opens one for each torrent that it fetches: one for
 * each NAR of a closure. It tries a refused one again after a minute.
 */
export const MAX_CONNECTIONS_PER_NEIGHBOUR = 1500;
/** Incoming connections of one address of the internet, or of one IPv6 network of 64 bits. */
export const MAX_CONNECTIONS_PER_STRANGER = 64;
/** Time for a stranger's handshake. Then it is disconnected. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Encrypted handshakes that are answered per second. Each costs a Diffie-Hellman exchange of half a millisecond. */
export const MSE_HANDSHAKES_PER_SECOND = { total: 100, perRange: 50, burst: 400, burstPerRange: 200 };
/** Time for an outgoing connection. Then it is given up. */
export const CONNECT_TIMEOUT_MS = 5_000;

/** The longest block that is requested or served: 128 KiB between two narswarms, 16 KiB with all others. */
export const MAX_BLOCK_BYTES = 128 * 1024;
/**
 * The longest message of the peer protocol: a long block with its head. A bitfield of that size has a million pieces.
 */
export const MAX_MESSAGE_BYTES = MAX_BLOCK_BYTES + 64;
/** The longest bencoded message of an extension (BEP 10): handshakes, and metadata in 16 KiB with a head. */
export const MAX_BENCODED_BYTES = 32 * 1024;
/** Handshakes of extensions from one peer. It may send another after a change (BEP 10). */
export const MAX_EXTENDED_HANDSHAKES = 8;
/** Pieces of a torrent with unknown metadata. */
export const MAX_PIECES = 2 ** 20;
/** Metadata of a torrent (BEP 9): 2 MiB describe a hash map of 1.6 GB in pieces of 16 KiB. */
export const MAX_METADATA_BYTES = 2 * 1024 * 1024;
/** The longest piece of a torrent that is read by its infohash alone. Hash maps have 16 KiB. */
export const MAX_READ_PIECE_BYTES = 1024 * 1024;
/** Pieces of such a torrent. WebTorrent makes an object for each at once. */
export const MAX_READ_PIECES = 16_384;
/** Bytes of its files, which are held in memory. Larger hash maps are read from mirrors and members alone. */
export const MAX_READ_BYTES = 160 * 1024 * 1024;
/** Peers that are asked for a torrent's metadata at the same time. Each takes memory for all of it. */
export const MAX_METADATA_SOURCES = 4;
/** Time for a peer to deliver all metadata. Then it makes room for another. */
export const METADATA_PATIENCE_MS = 3_000;

/** Bytes for one peer that are read from the disk or wait for its socket: enough to keep a fast socket busy. */
export const MAX_UNSENT_PER_PEER_BYTES = 512 * 1024;
/**
 * The same limit for all peers together. Beyond it peers wait for each other, and those that do not read are
 * disconnected.
 */
export const MAX_UNSENT_BYTES = 64 * 1024 * 1024;
/**
 * Bytes of a connection that Node reads ahead while nobody takes them, besides one further read. Node's default is 64
 * KiB: two thousand peers that send more than may wait would take 250 MB.
 */
export const READ_AHEAD_BYTES = 16 * 1024;
/** While memory is short, a peer that has taken none of its waiting bytes for this time is disconnected. */
export const UNREAD_MS = 2_000;
/** Waiting requests of one peer: libtorrent sends requests for 500 blocks at once, and at most 2,000. */
export const MAX_OPEN_REQUESTS = 2048;
/** Open requests that we allow peers (`reqq`), and the most that we have open at one: 8 MiB. */
export const ANNOUNCED_OPEN_REQUESTS = 512;
/** The same limit at a peer that does not say (BEP 10). */
export const DEFAULT_OPEN_REQUESTS = 250;
/** Rejected requests in a row after which a peer counts as having nothing. */
export const MAX_REFUSALS = 16;
/** Unrequested payload of one peer. Blocks may be on their way when their request is withdrawn. */
export const MAX_UNASKED_BYTES = 1024 * 1024;
/** Small answers (rejects, metadata) that wait outside the window. A client that reads never has so many. */
export const MAX_UNREAD_ANSWERS_BYTES = 4 * 1024 * 1024;

/** Limit on one member's waiting requests: 600 questions for a range. Above it, nothing more is read from the member. */
export const MAX_WAITING_REQUEST_BYTES = 256 * 1024;
/**
 * The same limit for all members together. Above it, few requests of each member may wait: 40 questions for a range.
 * Not fewer: a narswarm has up to 128 open, and two sides that both stop reading would wait for each other.
 */
export const MAX_ALL_WAITING_REQUEST_BYTES = 32 * 1024 * 1024;
/** The same limit for the members of one host. */
export const MAX_HOST_WAITING_REQUEST_BYTES = 4 * 1024 * 1024;
export const FEW_WAITING_REQUEST_BYTES = 16 * 1024;
/** Memory of a waiting write besides its bytes: the objects of the stream and ours. */
export const WRITE_BYTES = 256;
/** Prefixes of files in one message of the exchange: 32 KiB of them. */
export const MAX_PREFIXES_PER_MESSAGE = 4096;
/**
 * Wanted files of one member that we lack, of the members of one host, and of all members, about 100 bytes each. Above it, members learn
 * which files are here now, but not which arrive later.
 */
export const MAX_WANTS = 32_768;
export const MAX_HOST_WANTS = 100_000;
export const MAX_ALL_WANTS = 400_000;
/** Bytes of one DATA message of the exchange. On a line of 1 Mbit/s, one arrives every second as a sign of life. */
export const MAX_DATA_BYTES = 128 * 1024;
/** Ranges among which a member may let us choose. */
export const MAX_ANY_CANDIDATES = 128;
/** Files in one message about fetches from upstreams. */
export const MAX_FETCHES_PER_MESSAGE = 256;
/** Narinfos in one question, and bytes of the longest of them and of all together. A thousand references take 64 KiB. */
export const MAX_NARINFOS_PER_MESSAGE = 256;
export const MAX_EXCHANGE_NARINFO_BYTES = 128 * 1024;
export const MAX_NARINFO_ANSWER_BYTES = 4 * 1024 * 1024;
/**
 * Narinfos that are looked up for members per second: each may cost a third of a millisecond, for its file and its
 * signature. A member that fetches a whole system asks for some thousands at once.
 */
export const NARINFOS_PER_SECOND = { total: 1500, perRange: 1000, burst: 20_000, burstPerRange: 10_000 };
/** Processor time for the messages of one host's members, other than the payload that we asked for. */
export const PROCESSOR_TIME = { perSecondMs: 100, burstMs: 500 };
/**
 * Processor time for the messages of one host's ordinary clients. Payload that we asked for does not count, nor do requests
 * for blocks that the client then took. A client that fetches a whole system opens 800 torrents, one for each NAR. This
 * takes a second.
 */
export const CLIENT_PROCESSOR_TIME = { perSecondMs: 500, burstMs: 1_000 };
/**
 * Processor time for one connection of an ordinary client, from accept to close: in WebTorrent, streams, the system and the
 * collector of garbage. It is not measured, since most of it comes later and elsewhere.
 */
export const CLIENT_OPENING_MS = 0.6;
/**
 * The same for all new connections of one host's ordinary clients: 1,500 at once, as many as a neighbour may have, then 300 per
 * second. Others wait.
 */
export const CLIENT_OPENING_TIME = { perSecondMs: 300 * CLIENT_OPENING_MS, burstMs: 1500 * CLIENT_OPENING_MS };
/** Ignored bytes of messages from one member: those of later versions, and of BEP 3. */
export const MAX_IGNORED_BYTES = 1024 * 1024;

/** Connections to the HTTP mirror of a hash map, from everybody together. */
export const MAX_HTTP_CONNECTIONS = 256;
/** The same limit for one host. A browser opens 6, narswarm as many as configured, and a NAT hides a few machines. */
export const MAX_HTTP_CONNECTIONS_PER_HOST = 32;
/**
 * Connections to the HTTP port of a daemon, from everybody together: fifty machines whose Nix opens as many as it does by
 * default (`http-connections`: 25), and more.
 */
export const MAX_NIX_CONNECTIONS = 1_536;
/** The same limit for one host, whose nix.conf may ask for more. */
export const MAX_NIX_CONNECTIONS_PER_HOST = 128;
/** Requests of one HTTP connection that wait for their answer. They are answered one after another. */
export const MAX_HTTP_REQUESTS_WAITING = 100;
/** Bytes of a file that are read at a time for one HTTP answer. The next are read when the socket has taken them. */
export const HTTP_CHUNK_BYTES = 64 * 1024;
/** Time after which an HTTP client that takes no byte, or sends no request, is disconnected. */
export const HTTP_IDLE_MS = 30_000;

/** Remembered peers, over all swarms. */
export const MAX_PEERS = 2000;
/** The same limit for one host: several processes of one machine, or machines behind one NAT. */
export const MAX_PEERS_PER_HOST = 64;
/** Remembered hosts that have lied. */
export const MAX_BANNED_HOSTS = 4096;

/** Nodes that are accepted from, and put into, one answer of the DHT (BEP 5: the 8 nearest). */
export const MAX_DHT_NODES = 8;
/** Peers that are accepted from, and put into, one answer of the DHT: more do not fit into a packet. */
export const MAX_DHT_VALUES = 100;
/** Queries for one target within {@link DHT_TARGET_MS}: a search among millions of nodes asks about a hundred. */
export const MAX_DHT_QUERIES_PER_TARGET = 256;
export const DHT_TARGET_MS = 30_000;
/** Targets whose queries are counted at the same time. */
export const MAX_DHT_TARGETS = 1024;
/** DHT packets that are read per second, from everybody and from one network of 256 addresses; bursts are longer. */
export const DHT_PACKETS_PER_SECOND = { total: 1000, perRange: 200, burst: 4000, burstPerRange: 2000 };
/** LAN announcements that are read per second: 500 machines answer a newcomer within half a second. */
export const LAN_PACKETS_PER_SECOND = { total: 200, perRange: 20, burst: 1000, burstPerRange: 100 };
