import type { Socket } from 'node:net';
import { formatEndpoint } from '../../discovery/endpoint.ts';
import { noteReached, strangerAt, type PeerRecord } from '../../discovery/peer-table.ts';
import type { FileHash, InfoHash, StoreHash } from '../../nix/brands.ts';
import { asIPv4IfMapped } from '../../wire/address-range.ts';
import { WRITE_BYTES } from '../../wire/bounds.ts';
import type { Agreed } from '../../wire/encryption.ts';
import type { Receiver } from '../../wire/send-budget.ts';
import { AskingSide } from './asking-side.ts';
import { Connection, type ConnectionEvents } from './connection.ts';
import type { LinkContext } from './link-context.ts';
import { formatMessage } from '../messages/format-message.ts';
import type { GetOptions, Member, OnBytes, Outcome } from '../member.ts';
import { prefixOf, type Edition, type FilePrefix, type FileRange, type Message } from '../messages/messages.ts';
import { Opening } from '../messages/opening.ts';
import type { PieceSet } from '../messages/piece-set.ts';
import { ServingSide } from './serving-side.ts';
import { Telling } from './telling.ts';
import type { TheirEditions } from './their-editions.ts';
import type { Claim } from './their-fetches.ts';

export interface LinkEvents {
  /** Both handshakes are done: the member may be asked. */
  readonly opened: (link: Link) => void;
  readonly have: (link: Link, file: FileHash) => void;
  readonly known: (link: Link) => void;
  readonly piece: (link: Link, file: FileHash) => void;
  readonly edition: (link: Link, edition: Edition) => void;
  /** It has ended, or could not be made. Called once. */
  readonly closed: (link: Link) => void;
}

/** One connection to one member: its opening, the side that asks, and the side that serves. */
export class Link implements Member, Receiver {
  readonly group: InfoHash;
  readonly isOutgoing: boolean;
  readonly host: string;
  peer: PeerRecord;
  /** When it became idle, in milliseconds of `performance.now()`. Undefined if it is not idle. */
  idleSinceMs: number | undefined;
  readonly telling: Telling;
  readonly #context: LinkContext;
  readonly #events: LinkEvents;
  readonly #connection: Connection;
  readonly #opening: Opening;
  readonly #asking: AskingSide;
  readonly #serving: ServingSide;

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
    const connection = connect({
      connected: () => this.#onConnected(),
      handshake: (bytes) => this.#opening.onHandshake(bytes),
      extended: (payload) => this.#onExtended(payload),
      message: (message) => this.isOpen && this.#onMessage(message),
      data: (id, bytes) => this.isOpen && this.#asking.requests.onData(id, bytes),
      isFull: () => this.#serving.answers.isFull,
      isUrgent: () => this.#asking.requests.isUrgent,
      room: () => this.#serving.answers.onRoom(),
      closed: () => this.#onClosed(),
    });
    this.#connection = connection;
    this.host = asIPv4IfMapped(connection.remote.host);
    this.#opening = new Opening({
      group: this.group,
      isOutgoing: this.isOutgoing,
      ownPeerId: context.peerId,
      port: context.port,
      send: (bytes) => connection.send(bytes),
      onLate: () => this.drop(),
    });
    const send = (message: Message): void => this.#send(message);
    const mayHave = (): boolean => context.mayHave(this.host);
    this.#asking = new AskingSide({
      wanted: context.wanted,
      peer: () => this.peer,
      connection,
      line: context.peers.line,
      patience: context.patience,
      send,
      onHave: (file) => events.have(this, file),
      onKnown: () => events.known(this),
      onPiece: (file) => events.piece(this, file),
      onEdition: (edition) => events.edition(this, edition),
    });
    const extensionId = (): number => this.#opening.extensionId;
    const { address } = this.peer;
    this.#serving = new ServingSide({ receiver: this, address, connection, extensionId, mayHave, send }, context);
    this.telling = new Telling({
      group: this.group,
      mayHave,
      isNeighbour: () => this.isNeighbour,
      asking: this.#asking,
      theirs: this.#serving.wants,
      send,
    });
    context.budget.add(this);
  }

  /** Connects to a peer under the infohash of a group. */
  static dial(peer: PeerRecord, group: InfoHash, context: LinkContext, events: LinkEvents): Link {
    peer.dialedAtMs ??= performance.now();
    const { host } = peer.endpoint;
    const [limit, time] = [context.downloadLimit(host), context.processor.of(host)];
    const connect = (on: ConnectionEvents): Connection =>
      Connection.dial(peer, on, { buffer: context.readBuffer, limit, time });
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
    const [limit, time] = [context.downloadLimit(remote.host), context.processor.of(remote.host)];
    const connect = (on: ConnectionEvents): Connection =>
      Connection.adopt(socket, on, { remote, opening, limit, time });
    const group = opening.infoHash as InfoHash;
    const peer = strangerAt(formatEndpoint(remote));
    const link = new Link(connect, { group, peer, isOutgoing: false }, context, events);
    link.#opening.sayHello();
    return link;
  }

  /** True once there is a connection. The handshakes follow. */
  get hasConnected(): boolean {
    return this.#opening.hasConnected;
  }

  /** The peer id of the other side, in hex. Empty until it is known. */
  get peerId(): string {
    return this.#opening.peerId;
  }

  /** The editions of hash maps that the member says it holds. */
  get editions(): TheirEditions {
    return this.#asking.editions;
  }

  get isOurselves(): boolean {
    return this.#opening.isOurselves;
  }

  /**
   * True if the peer has answered as a member of the group. Some clients greet everybody with the handshake of their only
   * torrent before they close.
   */
  get hasAnswered(): boolean {
    return this.#opening.extensionId > 0;
  }

  get isNeighbour(): boolean {
    return this.#context.networks.includes(this.host);
  }

  get isOpen(): boolean {
    return this.#opening.extensionId > 0 && !this.#connection.isClosed;
  }

  get openRequests(): number {
    return this.#asking.requests.size;
  }

  get inFlightBytes(): number {
    return this.#asking.requests.inFlightBytes;
  }

  get debtMs(): number {
    return this.#connection.debtMs;
  }

  get isLate(): boolean {
    return this.#asking.isLate;
  }

  /** The longest silence that the member has ended by sending something, in milliseconds. Undefined before that. */
  get endedSilenceMs(): number | undefined {
    return this.#asking.endedSilenceMs;
  }

  get isKnown(): boolean {
    return this.isOpen && this.#asking.haves.isKnown;
  }

  /** True if nothing is requested in either direction, and the member has said that it has no wanted file. */
  get isIdle(): boolean {
    const { haves, requests } = this.#asking;
    const isUsed = requests.size > 0 || this.#serving.answers.size > 0;
    return this.isKnown && !isUsed && this.#context.wanted.size > 0 && haves.isEmpty;
  }

  get sentBytes(): number {
    return this.#serving.sentBytes;
  }

  get heldBytes(): number {
    return this.#connection.unsentBytes + this.#connection.unreadBytes + this.#serving.answers.heldBytes;
  }

  get unreadSinceMs(): number | undefined {
    return this.#connection.unsentBytes > 0 ? this.#connection.takenAtMs : undefined;
  }

  has(file: FileHash): 'whole' | PieceSet | undefined {
    return this.#asking.haves.get(file);
  }

  wants(file: FileHash): boolean {
    return this.lacks(this.#context.wanted.get(file)?.prefix ?? prefixOf(file));
  }

  fetching(file: FileHash): Claim | undefined {
    return this.#asking.fetches.get(file);
  }

  /** Returns true if the member wants a file and was not told that we have it. */
  lacks(prefix: FilePrefix): boolean {
    return this.#serving.wants.has(prefix);
  }

  get(range: FileRange, onBytes: OnBytes, signal: AbortSignal, options?: GetOptions): Promise<Outcome> {
    return this.isOpen ? this.#asking.requests.get(range, onBytes, signal, options) : Promise.resolve('closed');
  }

  any(
    candidates: readonly FileRange[],
    on: { readonly picked: (index: number) => void; readonly bytes: OnBytes },
    signal: AbortSignal,
  ): Promise<Outcome> {
    return this.isOpen ? this.#asking.requests.any(candidates, on, signal) : Promise.resolve('closed');
  }

  narInfos(hashes: readonly StoreHash[], signal: AbortSignal): Promise<(string | undefined)[]> {
    if (this.isOpen) return this.#asking.requests.narInfos(hashes, signal);
    return Promise.resolve(Array.from({ length: hashes.length }));
  }

  drop(): void {
    this.#connection.close();
  }

  close(): void {
    this.drop();
  }

  /** Checks the connection, about every second. Closes a dead one, and sends keep-alives to a waiting member. */
  look(nowMs: number, wokeAtMs: number): void {
    if (!this.isOpen) return;
    this.idleSinceMs = this.isIdle ? (this.idleSinceMs ?? nowMs) : undefined;
    if (this.#asking.isDead(nowMs, wokeAtMs)) this.drop();
    else this.#serving.keepAlive(nowMs);
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
      if (this.#context.peers.isBanned(address)) return false;
    }
    this.telling.want([...this.#context.wanted.values()]);
    this.#events.opened(this);
    return true;
  }

  /** Passes a message to the side that it is for. @returns false if the member must not send it */
  #onMessage(message: Exclude<Message, { kind: 'data' }>): boolean {
    switch (message.kind) {
      case 'want':
      case 'unwant':
      case 'get':
      case 'any':
      case 'narinfoGet':
      case 'cancel':
        return this.#serving.on(message);
      default:
        return this.#asking.on(message);
    }
  }

  #onClosed(): void {
    this.#opening.close();
    this.#context.budget.remove(this);
    this.#asking.close();
    this.#serving.close();
    this.#events.closed(this);
  }
}
