/**
 * A node of the BitTorrent DHT (BEP 5) that also holds mutable items (BEP 44), such as the infohash of a publisher's
 * newest index (BEP 46). The only file that knows bittorrent-dht.
 *
 * What is mended here, because the library (11.0.12, k-rpc-socket 1.11.1) does it otherwise:
 * - one packet of four bytes makes its bencode decoder loop for ever, and a field of the wrong type throws inside its
 *   UDP handler, which ends the process: every packet passes {@link isSoundPacket} before the library sees it;
 * - a publisher does not hold its own item, and a second put of one seq fails with 302;
 * - tokens are kept for five minutes, so a put goes to nodes that are gone: each put and announce asks anew first;
 * - failing to bind is a mere warning unless the cause is EADDRINUSE or EACCES;
 * - what runs while the node is destroyed never calls back: every operation here ends with its deadline or `close`.
 */
/* oxlint-disable typescript/no-unsafe-type-assertion, no-underscore-dangle -- packets are narrowed after their check;
   the library has no public way to hold an item */
import { createHash, createPublicKey, verify } from 'node:crypto';
import { createSocket } from 'node:dgram';
import type { RemoteInfo, Socket } from 'node:dgram';
import { EventEmitter, once } from 'node:events';
import bencode from 'bencode';
import { Client } from 'bittorrent-dht';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import { formatEndpoint, isPort } from './endpoint.ts';
import type { Endpoint } from './endpoint.ts';

export interface DhtOptions {
  /** IPv4 address to bind. Default: `0.0.0.0`, every interface. */
  readonly host?: string;
  /** UDP port to bind. Default: 0, any free one. */
  readonly port?: number;
  /** Nodes to ask first. `[]` asks nobody: the first node of a network. Default: the public routers. */
  readonly bootstrap?: readonly Endpoint[];
  /** Peers announced by others that are held, over all infohashes, 100 bytes each. Default: 10,000. */
  readonly maxPeersStored?: number;
  /** After this time a node counts as silent. Default: 2000. */
  readonly queryTimeoutMs?: number;
}

/** What bounds an operation. At `timeoutMs` it ends with what was found; `signal` makes it reject with its reason. */
export interface DhtOperationOptions {
  /** Default: 30,000. A lookup among public nodes takes 5 to 15 s, since many of them are gone. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** A mutable item (BEP 44) whose signature fits the key that was asked for. */
export interface MutableItem {
  /** Generation of the value: a later one is higher. */
  readonly seq: number;
  /** The value, bencoded, as it was signed. */
  readonly value: Uint8Array;
  /** The torrent that the value points to (BEP 46); undefined where it is anything but a dictionary with a 20-byte `ih`. */
  readonly infoHash: InfoHash | undefined;
  /** 64 bytes: with it anyone may put the item again, to keep it from expiring. */
  readonly signature: Uint8Array;
}

/** A pointer to a torrent (BEP 46), to be signed and stored. */
export interface MutablePut {
  /** Raw ed25519 key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Tells apart the items of one key: at most 64 bytes, may be empty. */
  readonly salt: Uint8Array;
  /** Must grow with every new `infoHash`; the same pair may be put again at any time. */
  readonly seq: number;
  readonly infoHash: InfoHash;
  /** Returns the 64-byte signature of `message`; to put somebody else's item again, the signature it came with. */
  readonly sign: (message: Uint8Array) => Uint8Array;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** BEP 5 names no time; clients announce every 15 to 30 minutes. The library would keep peers for ever. */
const PEER_LIFE_MS = 45 * 60_000;
const MAX_SALT_BYTES = 64;

/** One node: asks for others, and holds items and peers for others in memory, as every node does. */
export class DhtNode implements AsyncDisposable {
  /** The UDP port that it listens on. */
  readonly port: number;
  readonly #dht: Client;
  /** Ends the operations under way. */
  readonly #running = new Set<() => void>();
  #closing: Promise<void> | undefined;

  private constructor(udp: Socket, options: DhtOptions) {
    const socket = new GuardedSocket(udp);
    this.port = udp.address().port;
    this.#dht = new Client({
      socket,
      verify: isSignedBy,
      maxAge: PEER_LIFE_MS,
      maxPeers: options.maxPeersStored ?? 10_000,
      timeout: options.queryTimeoutMs ?? 2000,
      ...(options.bootstrap && { bootstrap: options.bootstrap.map(({ host, port }) => ({ host, port })) }),
    });
    this.#dht.setMaxListeners(0);
    socket.emit('listening');
  }

  /**
   * Binds the port and begins to look for nodes; {@link ready} waits for that.
   *
   * @throws NarswarmError `LISTEN_FAILED` where the address or port cannot be had.
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
      const message = `the DHT cannot listen on UDP ${address}: is the port in use, or the address not of this machine?`;
      throw new NarswarmError('LISTEN_FAILED', message, { cause, facts: { host, port } });
    }
    return new DhtNode(udp, options);
  }

  /** Waits for the first search for nodes. True where another node is known by then. */
  async ready(options: DhtOperationOptions = {}): Promise<boolean> {
    await this.#until(options, (done) => (this.#dht.ready ? done() : this.#dht.once('ready', done)));
    return this.nodeCount() > 0;
  }

  /**
   * The item with the highest seq that this node holds or any node near the key answers with (BEP 44), or undefined:
   * nobody has one, or nobody answered; {@link nodeCount} tells which.
   *
   * @throws NarswarmError `USAGE` for a key or salt of the wrong size
   */
  async getMutable(
    publicKey: Uint8Array,
    salt: Uint8Array,
    options: DhtOperationOptions = {},
  ): Promise<MutableItem | undefined> {
    return (await this.#find(publicKey, salt, options)).newest;
  }

  /**
   * Signs and stores `{ih}` (BEP 46), here and at the nodes nearest to the key. To be repeated every hour: nodes may
   * drop an item after two.
   *
   * @returns how many other nodes are known to hold it now, at least; 0 where nobody could be reached
   * @throws NarswarmError `INDEX_ROLLBACK` where the DHT has a higher seq, or this seq with another value; `KEY_INVALID`
   *   where the signature does not fit the key; `USAGE` for a key or salt of the wrong size or a seq that is no integer
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
    // A node that held it already takes it again (libtorrent) or answers 302 (bittorrent-dht): the two may overlap.
    return { nodes: Math.max(takers, newest?.seq === seq ? holders : 0) };
  }

  /**
   * Tells the nodes nearest to `infoHash` that this host serves it on TCP `port` (BEP 5). To be repeated every 15 to 30
   * minutes, while it does.
   *
   * @returns how many nodes took note; 0 where nobody could be reached
   * @throws NarswarmError `USAGE` for a port that is none
   */
  async announce(infoHash: InfoHash, port: number, options: DhtOperationOptions = {}): Promise<{ nodes: number }> {
    // The library takes 0 for its own UDP port.
    if (!isPort(port)) throw new NarswarmError('USAGE', `${port} is no port to announce`);
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
   * Asks for the peers of `infoHash` (BEP 5) and reports each once, as it is found; this host may be among them.
   * They are claims of strangers. What `onPeer` throws ends the lookup and is thrown.
   *
   * @returns how many peers were reported
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

  /** How many nodes the routing table holds; 0 means isolated. */
  nodeCount(): number {
    return this.#dht.nodes.count();
  }

  /** The nodes of the routing table, such as to bootstrap from next time. */
  nodes(): Endpoint[] {
    return this.#dht.nodes.toArray().map(({ host, port }) => ({ host, port }));
  }

  /** Pings a node, and adds it to the routing table when it answers. */
  addNode({ host, port }: Endpoint): void {
    this.#dht.addNode({ host, port });
  }

  /** Frees the port. Operations under way end with what they have; later ones find nothing. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => this.#dht.destroy(resolve));
    for (const end of this.#running) end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #find(publicKey: Uint8Array, salt: Uint8Array, options: DhtOperationOptions): Promise<Found> {
    const target = targetOf(publicKey, salt);
    const found: Found = { newest: undefined, holders: 0 };
    const consider = (signature: Uint8Array, message: Uint8Array, key: Uint8Array): boolean => {
      const item = isEqual(key, publicKey) ? readSigned(message, salt) : undefined;
      if (item === undefined || !isSignedBy(signature, message, key)) return false;
      const { newest } = found;
      if (newest?.seq === item.seq && isEqual(newest.value, item.value)) found.holders++;
      if (newest === undefined || item.seq > newest.seq) {
        found.newest = { ...item, signature: Uint8Array.from(signature) };
        found.holders = 1;
      }
      return true;
    };
    const held = this.#dht._values.get(target.toString('hex'));
    if (held !== undefined && consider(held.sig, signedMessage(salt, held.seq ?? 0, bencode.encode(held.v)), held.k)) {
      found.holders = 0;
    }
    const get = { salt: salt.length > 0 ? Buffer.from(salt) : undefined, cache: false, verify: consider };
    await this.#until(options, (done) => this.#dht.get(target, get, done));
    return found;
  }

  /** Starts a call of the library and waits for it, its deadline or `close`. */
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

interface Found {
  newest: MutableItem | undefined;
  /** How many other nodes answered with `newest`. */
  holders: number;
}

/** Where the item lives: SHA-1 of key and salt (BEP 44). Throws `USAGE` for sizes that BEP 44 rules out. */
function targetOf(publicKey: Uint8Array, salt: Uint8Array): Buffer {
  if (publicKey.length !== 32) {
    throw new NarswarmError('USAGE', `an ed25519 public key has 32 bytes, this one has ${publicKey.length}`);
  }
  if (salt.length > MAX_SALT_BYTES) {
    throw new NarswarmError('USAGE', `a salt has at most ${MAX_SALT_BYTES} bytes, this one has ${salt.length}`);
  }
  return createHash('sha1').update(publicKey).update(salt).digest();
}

/** What BEP 44 signs: `4:salt<length>:<salt>3:seqi<seq>e1:v<bencoded value>`, without the salt if that is empty. */
function signedMessage(salt: Uint8Array, seq: number, value: Uint8Array): Buffer {
  const salted = salt.length > 0 ? [Buffer.from(`4:salt${salt.length}:`), salt] : [];
  return Buffer.concat([...salted, Buffer.from(`3:seqi${seq}e1:v`), value]);
}

/** Reads {@link signedMessage} back; undefined where it is of another salt. */
function readSigned(message: Uint8Array, salt: Uint8Array): Omit<MutableItem, 'signature'> | undefined {
  const { seq, v } = bencode.decode(Buffer.concat([Buffer.from('d'), message, Buffer.from('e')])) as Fields;
  if (typeof seq !== 'number') return undefined;
  const head = signedMessage(salt, seq, Buffer.alloc(0));
  if (!isEqual(message.subarray(0, head.length), head)) return undefined;
  const ih = isDictionary(v) ? v['ih'] : undefined;
  const infoHash = isBytes(ih) && ih.length === 20 ? (Buffer.from(ih).toString('hex') as InfoHash) : undefined;
  return { seq, value: Uint8Array.from(message.subarray(head.length)), infoHash };
}

function isSignedBy(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, key, signature);
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Stands between the UDP socket and the library, which gets to see sound packets only. */
class GuardedSocket extends EventEmitter {
  readonly #udp: Socket;
  #isOpen = true;

  constructor(udp: Socket) {
    super();
    this.#udp = udp;
    // UDP loses packets anyway: what cannot be sent or read counts as lost.
    udp.on('error', () => {});
    udp.on('message', (packet, from) => this.#receive(packet, from));
  }

  address(): ReturnType<Socket['address']> {
    return this.#udp.address();
  }

  send(packet: Uint8Array, offset: number, length: number, port: number, host: string, done: () => void): void {
    if (this.#isOpen) this.#udp.send(packet, offset, length, port, host, done);
  }

  close(): void {
    this.#isOpen = false;
    this.#udp.close(() => this.emit('close'));
  }

  #receive(packet: Buffer, from: RemoteInfo): void {
    if (!this.#isOpen || !isSoundPacket(packet)) return;
    try {
      this.emit('message', packet, from);
    } catch {
      // What a stranger sent may cost one packet, never the process.
    }
  }
}

/** Queries hold an item of at most 1000 bytes (BEP 44); the library checks that of strings only. */
const MAX_QUERY_BYTES = 2048;
const [END, COLON] = Buffer.from('e:');

type Fields = Readonly<Record<string, unknown>>;

/** What the library takes these fields of `a` and `r` to be, without a check of its own (BEP 5, BEP 44). */
const FIELD_CHECKS: Readonly<Record<string, (value: unknown) => boolean>> = {
  id: isBytesOf(20),
  target: isBytesOf(20),
  info_hash: isBytesOf(20),
  k: isBytesOf(32),
  sig: isBytesOf(64),
  salt: isBytes,
  token: isBytes,
  nodes: isBytes,
  values: Array.isArray,
  seq: Number.isSafeInteger,
  cas: Number.isSafeInteger,
  port: Number.isSafeInteger,
};

/** True for a KRPC message (BEP 5) that the library can read: sound bencoding, and every field of its type. */
function isSoundPacket(packet: Buffer): boolean {
  try {
    endOfValue(packet, 0);
    const message = bencode.decode(packet);
    if (!isDictionary(message)) return false;
    const { t, y, q, a, r, e } = message;
    if (!isBytes(t) || !isBytes(y)) return false;
    if (q !== undefined && (!isBytes(q) || packet.length > MAX_QUERY_BYTES)) return false;
    const hasSoundError =
      e === undefined || (Array.isArray(e) && e.every((part) => typeof part === 'number' || isBytes(part)));
    return hasSoundError && hasSoundFields(a) && hasSoundFields(r);
  } catch {
    return false;
  }
}

function hasSoundFields(fields: unknown): boolean {
  if (fields === undefined) return true;
  if (!isDictionary(fields)) return false;
  return Object.entries(FIELD_CHECKS).every(([name, check]) => fields[name] === undefined || check(fields[name]));
}

/**
 * The index after the bencoded value at `start` (BEP 3). Throws RangeError where that reaches past the packet, is
 * malformed, or is nested deeper than the stack.
 */
function endOfValue(packet: Buffer, start: number): number {
  const kind = packet.toString('latin1', start, start + 1);
  if (kind === 'i') {
    const end = packet.indexOf('e', start);
    // The library's encoder garbles integers that a double does not hold.
    if (!/^-?\d{1,15}$/.test(packet.toString('latin1', start + 1, end))) throw new RangeError('bad integer');
    return end + 1;
  }
  if (kind !== 'd' && kind !== 'l') return endOfString(packet, start);
  let at = start + 1;
  while (packet[at] !== END) {
    if (kind === 'd') at = endOfString(packet, at);
    at = endOfValue(packet, at);
  }
  return at + 1;
}

function endOfString(packet: Buffer, start: number): number {
  const colon = packet.indexOf(COLON ?? 0, start);
  const digits = packet.toString('latin1', start, colon);
  const end = colon + 1 + Number(digits);
  if (!/^\d{1,5}$/.test(digits) || end > packet.length) throw new RangeError('bad string');
  return end;
}

function isDictionary(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array;
}

function isBytesOf(byteCount: number): (value: unknown) => boolean {
  return (value) => isBytes(value) && value.length === byteCount;
}
