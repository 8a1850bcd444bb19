import type { Socket } from 'node:net';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { noteReached, strangerAt, type PeerRecord } from '../discovery/peer-table.ts';
import type { FileHash, InfoHash, StoreHash } from '../nix/brands.ts';
import { asIPv4IfMapped } from '../wire/address-range.ts';
import { WRITE_BYTES } from '../wire/bounds.ts';
import type { Agreed } from '../wire/encryption.ts';
import type { Receiver } from '../wire/send-budget.ts';
import { Answers } from './answers.ts';
import { Connection, type ConnectionEvents } from './connection.ts';
import { dispatch, type Handlers } from './dispatch.ts';
import { Haves } from './haves.ts';
import type { LinkContext } from './link-context.ts';
import { formatMessage } from './format-message.ts';
import type { Member, OnBytes, Outcome } from './member.ts';
import { prefixOf, type Edition, type Fetch, type FilePrefix, type FileRange, type Message } from './messages.ts';
import { Opening } from './opening.ts';
import type { PieceSet } from './piece-set.ts';
import { Requests } from './requests.ts';
import { Silence } from './silence.ts';
import { Telling } from './telling.ts';
import { TheirEditions } from './their-editions.ts';
import { TheirFetches, type Claim } from './their-fetches.ts';
import { TheirWants } from './their-wants.ts';
import type { Wanted } from './wanted.ts';

/** Interval of keep-alives to a member that waits for us, since others may be served first. */
const KEEP_ALIVE_MS = 2_000;

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
  readonly editions = new TheirEditions();
  readonly group: InfoHash;
  readonly isOutgoing: boolean;
  /** When it became idle, in milliseconds of `performance.now()`. Undefined if it is not idle. */
  idleSinceMs: number | undefined;
  peer: PeerRecord;
  readonly #context: LinkContext;
  readonly #events: LinkEvents;
  readonly #connection: Connection;
  readonly #requests: Requests;
  readonly #answers: Answers;
  readonly #haves: Haves;
  readonly #fetches: TheirFetches;
  readonly #theirs: TheirWants;
  readonly #opening: Opening;
  readonly #silence: Silence;
  readonly #telling: Telling;
  readonly #handlers: Handlers;
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
    this.#opening = new Opening({
      group: this.group,
      isOutgoing: this.isOutgoing,
      ownPeerId: context.peerId,
      port: context.port,
      send: (bytes) => this.#connection.send(bytes),
      onLate: () => this.drop(),
    });
    this.#silence = new Silence(() => this.#connection, context.peers.line);
    const send = (message: Message): void => this.#send(message);
    this.#requests = new Requests({
      send,
      onPayload: (bytes) => this.#onPayload(bytes),
      onBusy: (isBusy) => this.#onBusy(isBusy),
    });
    this.#haves = new Haves(context.wanted, send);
    this.#fetches = new TheirFetches(context.wanted);
    const mayHave = (): boolean => context.mayHave(this.host);
    this.#theirs = new TheirWants({ offer: context.offer, room: context.wantsRoom, mayHave, send });
    this.#telling = new Telling({
      group: this.group,
      mayHave,
      isNeighbour: () => this.isNeighbour,
      haves: this.#haves,
      theirs: this.#theirs,
      send,
    });
    this.#connection = connect({
      connected: () => this.#onConnected(),
      handshake: (bytes) => this.#opening.onHandshake(bytes),
      extended: (payload) => this.#onExtended(payload),
      message: (message) => this.isOpen && dispatch(message, this.#handlers),
      isFull: () => this.#answers.isFull,
      data: (id, bytes) => this.isOpen && this.#requests.onData(id, bytes),
      room: () => this.#answers.onRoom(),
      closed: () => this.#onClosed(),
    });
    this.#answers = new Answers({
      offer: context.offer,
      address: this.peer.address,
      mayHave,
      takeTurn: (answer) => context.budget.turns.take(this, answer),
      leastSent: context.leastSent,
      uploadLimit: context.uploadLimit(this.host),
      takeRoom: (bytes, resume) => context.budget.take(this, bytes, resume),
      admitNarInfo: () => context.narInfos.admit(this.host),
      requestsRoom: context.requestsRoom.of(this.host),
      readOn: () => this.#connection.readOn(),
      unsentBytes: () => this.#connection.unsentBytes,
      extensionId: () => this.#opening.extensionId,
      send,
      sendBytes: (bytes, onSent) => this.#connection.send(bytes, onSent),
      onUpload: context.onUpload,
    });
    this.#handlers = {
      theirs: this.#theirs,
      haves: this.#haves,
      fetches: this.#fetches,
      answers: this.#answers,
      requests: this.#requests,
      onHave: (file) => events.have(this, file),
      onPiece: (file) => events.piece(this, file),
      onEdition: (edition) => {
        this.editions.note(edition);
        events.edition(this, edition);
      },
    };
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
    link.#opening.sayHello();
    return link;
  }

  /** Address of the other side's host, in the form of node:net. */
  get host(): string {
    return asIPv4IfMapped(this.#connection.remote.host);
  }

  /** True once there is a connection. The handshakes follow. */
  get hasConnected(): boolean {
    return this.#opening.hasConnected;
  }

  /** The peer id of the other side, in hex. Empty until it is known. */
  get peerId(): string {
    return this.#opening.peerId;
  }

  get isOurselves(): boolean {
    return this.#opening.isOurselves;
  }

  /** True if the peer has sent anything. A peer that does not know the group closes without a byte. */
  get hasAnswered(): boolean {
    return this.#connection.receivedBytes > 0;
  }

  get isNeighbour(): boolean {
    return this.#context.networks.includes(this.host);
  }

  get isOpen(): boolean {
    return this.#opening.extensionId > 0 && !this.#connection.isClosed;
  }

  get openRequests(): number {
    return this.#requests.size;
  }

  get inFlightBytes(): number {
    return this.#requests.inFlightBytes;
  }

  get silentMs(): number {
    return this.#requests.size === 0 ? 0 : this.#silence.payloadMs(performance.now());
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
    if (this.isOpen) this.#telling.want(files);
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

  /** Tells the member of an edition that is here, if it may hear of it. */
  tellEdition(edition: Edition): void {
    if (this.isOpen) this.#telling.edition(edition);
  }

  /** Tells a neighbour of files that it wants and that we fetch from an upstream. */
  tellFetching(fetches: readonly Fetch[]): void {
    if (this.isOpen) this.#telling.fetching(fetches);
  }

  /** Checks the connection, about every second. Closes a dead one, and sends keep-alives to a waiting member. */
  look(nowMs: number, wokeAtMs: number): void {
    if (!this.isOpen) return;
    this.idleSinceMs = this.isIdle ? (this.idleSinceMs ?? nowMs) : undefined;
    if (this.#requests.size > 0 && this.#silence.isDead(nowMs, wokeAtMs, this.peer.bytes > 0)) {
      this.drop();
      return;
    }
    if (this.#answers.size === 0 || nowMs - Math.max(this.#keptAliveAtMs, this.#connection.takenAtMs) < KEEP_ALIVE_MS)
      return;
    this.#keptAliveAtMs = nowMs;
    this.#connection.keepAlive();
  }

  #send(message: Message): void {
    const bytes = formatMessage(message, this.#opening.extensionId);
    this.#connection.send(bytes);
    this.#context.budget.note(bytes.length + WRITE_BYTES);
  }

  #onConnected(): void {
    noteReached(this.peer);
    this.#opening.onConnected();
  }

  #onExtended(payload: Buffer): boolean {
    const handshake = this.#opening.onExtended(payload);
    if (handshake === undefined || handshake === 'again') return handshake === 'again';
    if (!this.isOutgoing && handshake.port !== undefined) {
      const address = formatEndpoint({ host: this.host, port: handshake.port });
      this.peer = this.#context.peers.get(address) ?? strangerAt(address);
    }
    this.want([...this.#context.wanted.values()]);
    this.#events.opened(this);
    return true;
  }

  #onBusy(isBusy: boolean): void {
    const now = performance.now();
    if (isBusy) {
      this.#silence.onAsked(now);
      this.peer.rate.begin(now);
    } else {
      this.peer.rate.end(now);
    }
  }

  #onPayload(bytes: number): void {
    const now = performance.now();
    this.#silence.onPayload(now);
    this.peer.rate.add(bytes, now);
    this.#context.peers.line.onBytes(now);
  }

  #onClosed(): void {
    this.#opening.close();
    this.#context.budget.remove(this);
    this.#requests.close();
    this.#answers.close();
    this.#theirs.close();
    this.#events.closed(this);
  }
}
