import type { Socket } from 'node:net';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { formatEndpoint } from '../discovery/endpoint.ts';
import type { LocalNetworks } from '../discovery/local-networks.ts';
import { noteReached, strangerAt, type PeerRecord, type PeerTable } from '../discovery/peer-table.ts';
import type { FileHash, InfoHash, StoreHash } from '../nix/brands.ts';
import { asIPv4IfMapped } from '../wire/address-range.ts';
import {
  CONNECT_TIMEOUT_MS,
  HANDSHAKE_TIMEOUT_MS,
  MAX_EXTENDED_HANDSHAKES,
  MAX_FETCHES_PER_MESSAGE,
  WRITE_BYTES,
} from '../wire/bounds.ts';
import type { Agreed } from '../wire/encryption.ts';
import type { PacketBudget } from '../wire/packet-budget.ts';
import type { Receiver, SendBudget } from '../wire/send-budget.ts';
import { Answers, type RequestsRoom } from './answers.ts';
import { Connection, type ConnectionEvents } from './connection.ts';
import { Haves } from './haves.ts';
import { formatOpening, parseExtendedHandshake, parseHandshake } from './handshake.ts';
import type { LeastSent } from './least-sent.ts';
import type { Member, OnBytes, Outcome } from './member.ts';
import {
  formatMessage,
  prefixOf,
  type Fetch,
  type FilePrefix,
  type FileRange,
  type Edition,
  type Message,
} from './messages.ts';
import type { Offer } from './offer.ts';
import type { PieceSet } from './piece-set.ts';
import { Requests } from './requests.ts';
import { TheirFetches, type Claim } from './their-fetches.ts';
import { TheirWants, type WantsRoom } from './their-wants.ts';
import type { Wanted, WantedFiles } from './wanted.ts';

/** Time without any byte, while something is requested, after which a connection is closed. */
const DEAD_MS = 5_000;
/**
 * The same time for a member that has sent before, while no peer sends: then the line may be out, and may come back.
 */
const LINE_OUT_MS = 15_000;
/** Interval of keep-alives to a member that waits for us, since others may be served first. */
const KEEP_ALIVE_MS = 2_000;

/** The parts that all links of a process share. */
export interface LinkContext {
  /** 20 bytes that identify this process. */
  readonly peerId: Buffer;
  /** Port at which others reach us. */
  readonly port: () => number;
  readonly peers: PeerTable;
  readonly networks: Pick<LocalNetworks, 'includes'>;
  /** Returns true if the scope lets this host have our NARs. */
  readonly mayHave: (host: string) => boolean;
  readonly wanted: WantedFiles;
  readonly offer: Offer;
  readonly budget: SendBudget;
  readonly wantsRoom: WantsRoom;
  /** Counts narinfos that members look up, by host. */
  readonly narInfos: PacketBudget;
  readonly requestsRoom: RequestsRoom;
  readonly leastSent: LeastSent;
  /** Buffer for bytes received over connections that we open. */
  readonly readBuffer: Uint8Array;
  readonly downloadLimit: (host: string) => RateLimit | undefined;
  readonly uploadLimit: (host: string) => RateLimit | undefined;
  readonly onUpload: (bytes: number) => void;
}

export interface LinkEvents {
  /** Both handshakes are done: the member may be asked. */
  readonly opened: (link: Link) => void;
  readonly have: (link: Link, file: FileHash) => void;
  readonly piece: (link: Link, file: FileHash) => void;
  readonly edition: (link: Link, edition: Edition) => void;
  /** It has ended, or could not be made. Called once. */
  readonly closed: (link: Link) => void;
}

/** One connection to one member, in both roles: it is asked, and it is answered. */
export class Link implements Member, Receiver {
  readonly group: InfoHash;
  readonly isOutgoing: boolean;
  /** True once there is a connection. The handshakes follow. */
  hasConnected = false;
  /** When it became idle, in milliseconds of `performance.now()`. Undefined if it is not idle. */
  idleSinceMs: number | undefined;
  /** The peer id of the other side, in hex. Empty until it is known. */
  peerId = '';
  peer: PeerRecord;
  readonly #context: LinkContext;
  readonly #events: LinkEvents;
  readonly #connection: Connection;
  readonly #requests: Requests;
  readonly #answers: Answers;
  readonly #haves: Haves;
  readonly #fetches: TheirFetches;
  readonly #theirs: TheirWants;
  #extensionId = 0;
  #extendedHandshakes = 0;
  #timer: NodeJS.Timeout;
  #payloadAtMs = 0;
  #keptAliveAtMs = 0;

  private constructor(
    connect: (events: ConnectionEvents) => Connection,
    options: { group: InfoHash; peer: PeerRecord; isOutgoing: boolean },
    context: LinkContext,
    events: LinkEvents,
  ) {
    this.group = options.group;
    this.peer = options.peer;
    this.isOutgoing = options.isOutgoing;
    this.#context = context;
    this.#events = events;
    this.#timer = setTimeout(() => this.drop(), this.isOutgoing ? CONNECT_TIMEOUT_MS : HANDSHAKE_TIMEOUT_MS);
    const send = (message: Message): void => this.#send(message);
    this.#requests = new Requests({
      send,
      onPayload: (bytes) => this.#onPayload(bytes),
      onBusy: (isBusy) => this.#onBusy(isBusy),
    });
    this.#haves = new Haves(context.wanted, send);
    this.#fetches = new TheirFetches(context.wanted);
    this.#theirs = new TheirWants({
      offer: context.offer,
      room: context.wantsRoom,
      mayHave: () => context.mayHave(this.host),
      send,
    });
    this.#connection = connect({
      connected: () => this.#onConnected(),
      handshake: (bytes) => this.#onHandshake(bytes),
      extended: (payload) => this.#onExtended(payload),
      message: (message) => this.isOpen && this.#onMessage(message),
      isFull: () => this.#answers.isFull,
      data: (id, bytes) => this.isOpen && this.#requests.onData(id, bytes),
      room: () => this.#answers.onRoom(),
      closed: () => this.#onClosed(),
    });
    this.#answers = new Answers({
      offer: context.offer,
      address: this.peer.address,
      mayHave: () => context.mayHave(this.host),
      leastSent: context.leastSent,
      uploadLimit: context.uploadLimit(this.host),
      takeRoom: (bytes, resume) => context.budget.take(this, bytes, resume),
      admitNarInfo: () => context.narInfos.admit(this.host),
      requestsRoom: context.requestsRoom,
      readOn: () => this.#connection.readOn(),
      unsentBytes: () => this.#connection.unsentBytes,
      extensionId: () => this.#extensionId,
      send,
      sendBytes: (bytes, onSent) => this.#connection.send(bytes, onSent),
      onUpload: context.onUpload,
    });
    context.budget.add(this);
  }

  /** Connects to a peer under the infohash of a group. */
  static dial(peer: PeerRecord, group: InfoHash, context: LinkContext, events: LinkEvents): Link {
    peer.dialedAtMs ??= performance.now();
    const limit = context.downloadLimit(peer.endpoint.host);
    const connect = (on: ConnectionEvents): Connection =>
      Connection.dial(peer, on, { buffer: context.readBuffer, limit });
    return new Link(connect, { group, peer, isOutgoing: true }, context, events);
  }

  /** Takes over the connection of a peer that has named the group. */
  static adopt(
    socket: Socket,
    opening: Agreed,
    remote: { readonly host: string; readonly port: number },
    context: LinkContext,
    events: LinkEvents,
  ): Link {
    const limit = context.downloadLimit(remote.host);
    const connect = (on: ConnectionEvents): Connection => Connection.adopt(socket, on, { remote, opening, limit });
    const group = opening.infoHash as InfoHash;
    const peer = strangerAt(formatEndpoint(remote));
    const link = new Link(connect, { group, peer, isOutgoing: false }, context, events);
    link.#sayHello();
    return link;
  }

  /** Address of the other side's host, in the form of node:net. */
  get host(): string {
    return asIPv4IfMapped(this.#connection.remote.host);
  }

  /** True if we have connected to ourselves. */
  get isOurselves(): boolean {
    return this.peerId === this.#context.peerId.toString('hex');
  }

  /** True if the peer has sent anything. A peer that does not know the group closes without a byte. */
  get hasAnswered(): boolean {
    return this.#connection.receivedBytes > 0;
  }

  get isNeighbour(): boolean {
    return this.#context.networks.includes(this.host);
  }

  get isOpen(): boolean {
    return this.#extensionId > 0 && !this.#connection.isClosed;
  }

  get openRequests(): number {
    return this.#requests.size;
  }

  get inFlightBytes(): number {
    return this.#requests.inFlightBytes;
  }

  get silentMs(): number {
    if (this.#requests.size === 0) return 0;
    return Math.max(0, performance.now() - Math.max(this.#payloadAtMs, this.#silentSince));
  }

  get isKnown(): boolean {
    return this.isOpen && this.#haves.isKnown;
  }

  /**
   * True if nothing is requested in either direction, and the member has said that it has nothing of what is wanted.
   */
  get isIdle(): boolean {
    const isUsed = this.#requests.size > 0 || this.#answers.size > 0;
    return this.isKnown && !isUsed && this.#context.wanted.size > 0 && this.#haves.isEmpty;
  }

  get heldBytes(): number {
    return this.#connection.unsentBytes + this.#connection.unreadBytes + this.#answers.heldBytes;
  }

  get unreadSinceMs(): number | undefined {
    return this.#connection.unsentBytes > 0 ? this.#connection.takenAtMs : undefined;
  }

  has(file: FileHash): 'whole' | PieceSet | undefined {
    return this.#haves.get(file);
  }

  wants(file: FileHash): boolean {
    return this.lacks(this.#context.wanted.get(file)?.prefix ?? prefixOf(file));
  }

  fetching(file: FileHash): Claim | undefined {
    return this.#fetches.get(file);
  }

  /** Returns true if the member wants a file and was not told that we have it. */
  lacks(prefix: FilePrefix): boolean {
    return this.#theirs.has(prefix);
  }

  get(range: FileRange, onBytes: OnBytes, signal: AbortSignal): Promise<Outcome> {
    return this.isOpen ? this.#requests.get(range, onBytes, signal) : Promise.resolve('closed');
  }

  any(
    candidates: readonly FileRange[],
    on: { readonly picked: (index: number) => void; readonly bytes: OnBytes },
    signal: AbortSignal,
  ): Promise<Outcome> {
    return this.isOpen ? this.#requests.any(candidates, on, signal) : Promise.resolve('closed');
  }

  narInfos(hashes: readonly StoreHash[], signal: AbortSignal): Promise<(string | undefined)[]> {
    if (this.isOpen) return this.#requests.narInfos(hashes, signal);
    return Promise.resolve(Array.from({ length: hashes.length }));
  }

  drop(): void {
    this.#connection.close();
  }

  close(): void {
    this.drop();
  }

  /** Tells the member about newly wanted files. */
  want(files: readonly Wanted[]): void {
    if (!this.isOpen) return;
    const isAdmitted = this.#context.mayHave(this.host);
    this.#haves.want(isAdmitted ? files : files.filter(({ isScoped }) => isScoped !== true));
  }

  unwant(files: readonly Wanted[]): void {
    this.#fetches.forget(files.map(({ file }) => file));
    if (this.isOpen) this.#haves.unwant(files);
  }

  /** Tells the member that a file, or a piece of one, may be given now, if it wants it. */
  onArrived(prefix: FilePrefix): void {
    if (this.isOpen) this.#theirs.onArrived(prefix);
  }

  onPiece(prefix: FilePrefix, index: number): void {
    if (this.isOpen) this.#theirs.onPiece(prefix, index);
  }

  /**
   * Tells the member of an edition that is here. Beyond the local network, tells only followers of its hash map, so
   * that nobody learns which other maps this machine follows.
   */
  tellEdition(edition: Edition): void {
    const isFollower = this.isNeighbour || edition.group === this.group;
    if (this.isOpen && isFollower && this.#context.mayHave(this.host)) this.#send({ kind: 'edition', ...edition });
  }

  /** Tells a neighbour of files that it wants and that we fetch from an upstream. */
  tellFetching(fetches: readonly Fetch[]): void {
    if (!this.isOpen || !this.isNeighbour || !this.#context.mayHave(this.host)) return;
    const wanted = fetches.filter(({ prefix }) => this.lacks(prefix));
    for (let at = 0; at < wanted.length; at += MAX_FETCHES_PER_MESSAGE)
      this.#send({ kind: 'fetching', fetches: wanted.slice(at, at + MAX_FETCHES_PER_MESSAGE) });
  }

  /** Checks the connection, about every second. Closes a dead one, and sends keep-alives to a waiting member. */
  look(nowMs: number, wokeAtMs: number): void {
    if (!this.isOpen) return;
    this.idleSinceMs = this.isIdle ? (this.idleSinceMs ?? nowMs) : undefined;
    const quietMs = nowMs - Math.max(this.#connection.heardAtMs, this.#silentSince, wokeAtMs);
    const isLine = this.peer.bytes > 0 && this.#context.peers.line.isSilent(); // then the line is to blame
    if (this.#requests.size > 0 && quietMs > (isLine ? LINE_OUT_MS : DEAD_MS)) {
      this.drop();
      return;
    }
    if (this.#answers.size === 0 || nowMs - Math.max(this.#keptAliveAtMs, this.#connection.takenAtMs) < KEEP_ALIVE_MS)
      return;
    this.#keptAliveAtMs = nowMs;
    this.#connection.keepAlive();
  }

  /** Time since which only the peer can be the reason for its silence. */
  get #silentSince(): number {
    return Math.max(this.#askedAtMs, this.#connection.heldUntilMs, this.#context.peers.line.backAtMs);
  }
  #askedAtMs = 0;

  #send(message: Message): void {
    const bytes = formatMessage(message, this.#extensionId);
    this.#connection.send(bytes);
    this.#context.budget.note(bytes.length + WRITE_BYTES);
  }

  #sayHello(): void {
    const { peerId, port } = this.#context;
    this.#connection.send(formatOpening(this.group, peerId, port()));
  }

  #onConnected(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.drop(), HANDSHAKE_TIMEOUT_MS);
    this.hasConnected = true;
    noteReached(this.peer);
    this.#sayHello();
  }

  #onHandshake(bytes: Buffer): boolean {
    const handshake = parseHandshake(bytes);
    this.peerId = handshake?.peerId ?? '';
    return handshake?.group === this.group && !this.isOurselves;
  }

  #onExtended(payload: Buffer): boolean {
    const handshake = parseExtendedHandshake(payload);
    if (handshake?.extensionId === undefined) return false; // a client without the exchange, or with another version
    if (++this.#extendedHandshakes > MAX_EXTENDED_HANDSHAKES) return false;
    const isFirst = this.#extensionId === 0;
    this.#extensionId = handshake.extensionId;
    if (!isFirst) return true;
    clearTimeout(this.#timer);
    if (!this.isOutgoing && handshake.port !== undefined) {
      const address = formatEndpoint({ host: this.host, port: handshake.port });
      this.peer = this.#context.peers.get(address) ?? strangerAt(address);
    }
    this.want([...this.#context.wanted.values()]);
    this.#events.opened(this);
    return true;
  }

  #onMessage(message: Exclude<Message, { kind: 'data' }>): boolean {
    switch (message.kind) {
      case 'want':
        return this.#theirs.want(message.batch, message.prefixes);
      case 'unwant':
        this.#theirs.unwant(message.prefixes);
        return true;
      case 'haveMap':
        return this.#tell('have', this.#haves.onMap(message.batch, message.bitmap));
      case 'have':
        return this.#tell('have', this.#haves.onHave(message.prefixes));
      case 'pieces':
        return this.#tell('piece', this.#haves.onPieces(message.prefix, message.count, message.bitmap));
      case 'piece':
        return this.#tell('piece', this.#haves.onPiece(message.prefix, message.index));
      case 'get':
      case 'any':
      case 'narinfoGet':
        return this.#answers.ask(message);
      case 'cancel':
        this.#answers.cancel(message.id);
        return true;
      case 'refuse':
        return this.#requests.onRefuse(message.id, message.reason);
      case 'picked':
        return this.#requests.onPicked(message.id, message.index);
      case 'fetching':
        this.#fetches.on(message.fetches);
        return true;
      case 'narinfo':
        return this.#requests.onNarInfo(message.id, message.index, message.text);
      default:
        this.#events.edition(this, message);
        return true;
    }
  }

  #tell(what: 'have' | 'piece', files: readonly FileHash[] | undefined): boolean {
    if (what === 'have') this.#fetches.forget(files ?? []);
    for (const file of files ?? []) this.#events[what](this, file);
    return files !== undefined;
  }

  #onBusy(isBusy: boolean): void {
    const now = performance.now();
    if (isBusy) {
      this.#askedAtMs = now;
      this.peer.rate.begin(now);
    } else {
      this.peer.rate.end(now);
    }
  }

  #onPayload(bytes: number): void {
    this.#payloadAtMs = performance.now();
    this.peer.rate.add(bytes, this.#payloadAtMs);
    this.#context.peers.line.onBytes(this.#payloadAtMs);
  }

  #onClosed(): void {
    clearTimeout(this.#timer);
    this.#context.budget.remove(this);
    this.#requests.close();
    this.#answers.close();
    this.#theirs.close();
    this.#events.closed(this);
  }
}
