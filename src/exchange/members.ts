import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { isSlowToAnswer, type PeerRecord } from '../discovery/peer-table.ts';
import type { FileHash, InfoHash } from '../nix/brands.ts';
import { asIPv4IfMapped, hostKeyOf } from '../wire/address-range.ts';
import { NARINFOS_PER_SECOND, PROCESSOR_TIME } from '../wire/bounds.ts';
import type { Agreed } from '../wire/encryption.ts';
import { PacketBudget } from '../wire/packet-budget.ts';
import { ProcessorBudget } from '../wire/processor-budget.ts';
import { newPeerId } from '../wire/protocol.ts';
import { SendBudget } from '../wire/send-budget.ts';
import { Dialing } from './dialing.ts';
import { ALIAS_MS, KnownPeers } from './known-peers.ts';
import { LeastSent } from './answers/least-sent.ts';
import { Link, type LinkEvents } from './link/link.ts';
import type { LinkContext } from './link/link-context.ts';
import type { Member, WantedFile } from './member.ts';
import { prefixOf, type FilePrefix, type Edition } from './messages/messages.ts';
import { Patience } from './link/patience.ts';
import { PieceNews } from './piece-news.ts';
import { RequestsRoom } from './answers/requests-room.ts';
import { WantsRoom } from './link/wants-room.ts';
import { WantedFiles } from './link/wanted.ts';

/** Interval of checks of each connection. */
const LOOK_EVERY_MS = 1_000;

/** Events of {@link Members}. Other events of a member come between its `member` and `gone`. */
export interface MembersEvents {
  /** A member is connected and may be asked. It will soon name its files. */
  member: [member: Member];
  gone: [member: Member];
  /** It has all of a wanted file now. */
  have: [member: Member, file: FileHash];
  /** It has said of all wanted files whether it has them. */
  known: [member: Member];
  /** It has more pieces of a wanted file that it is fetching. */
  piece: [member: Member, file: FileHash];
  /** It says that it holds an edition of the hash map of a joined group. */
  edition: [member: Member, edition: Edition];
}

/** The parts of a process that its members need. */
export interface MembersOptions extends Pick<LinkContext, 'port' | 'peers' | 'networks' | 'mayHave' | 'offer'> {
  /** Limits on received and sent bytes, by host. Default: none. */
  readonly downloadLimit?: LinkContext['downloadLimit'];
  readonly uploadLimit?: LinkContext['uploadLimit'];
  /** Memory for members that ask and do not read. Default: an own budget. */
  readonly budget?: SendBudget;
  /** Limits on narinfos that members look up here. Default: those of {@link NARINFOS_PER_SECOND}. */
  readonly narInfos?: PacketBudget;
  /** Limits on the time that the messages of each host take. Default: those of {@link PROCESSOR_TIME}. */
  readonly processor?: ProcessorBudget;
  /** 20 bytes. Default: a random one for each process. */
  readonly peerId?: Buffer;
  /** Called with the number of sent payload bytes. */
  readonly onUpload?: (bytes: number) => void;
}

/** Bytes that are read from a socket at once. Larger reads take fewer calls. */
const READ_BYTES = 256 * 1024;

/** The members of our groups. Keeps one connection to each of some members, and reports their files. */
export class Members extends EventEmitter<MembersEvents> {
  readonly #context: LinkContext;
  readonly #known: KnownPeers;
  readonly #dialing: Dialing;
  readonly #links = new Set<Link>();
  /** Editions of our hash maps that are announced to members, by group. */
  readonly #editions = new Map<InfoHash, Edition>();
  readonly #open = new Set<Link>();
  readonly #lookTimer: NodeJS.Timeout;
  #lookedAtMs = performance.now();
  /** When this process ran again after a delay: messages that arrived meanwhile were not read. */
  #wokeAtMs = -Infinity;
  #isClosed = false;

  constructor(options: MembersOptions) {
    super();
    this.setMaxListeners(0);
    const none = (): undefined => undefined;
    const { port, peers, networks, mayHave, offer } = options;
    this.#context = {
      port,
      peers,
      networks,
      mayHave,
      offer,
      peerId: options.peerId ?? newPeerId(),
      wanted: new WantedFiles(),
      budget: options.budget ?? new SendBudget(),
      wantsRoom: new WantsRoom(),
      narInfos: options.narInfos ?? new PacketBudget(NARINFOS_PER_SECOND, undefined, hostKeyOf),
      requestsRoom: new RequestsRoom(),
      processor: options.processor ?? new ProcessorBudget(PROCESSOR_TIME),
      leastSent: new LeastSent(),
      patience: new Patience(),
      readBuffer: Buffer.allocUnsafe(READ_BYTES),
      downloadLimit: options.downloadLimit ?? none,
      uploadLimit: options.uploadLimit ?? none,
      onUpload: options.onUpload ?? none,
    };
    this.#known = new KnownPeers(peers, networks);
    this.#dialing = new Dialing({
      peers,
      networks,
      known: this.#known,
      open: this.#open,
      dial: (peer, group) => this.#addLink(Link.dial(peer, group, this.#context, this.#events)),
    });
    offer.on('news', this.#onNews);
    offer.on('piece', this.#onPiece);
    this.#lookTimer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  /** Members that are connected and may be asked. */
  get open(): ReadonlySet<Member> {
    return this.#open;
  }

  /** Identifies this process among its members, in hex. */
  get peerId(): string {
    return this.#context.peerId.toString('hex');
  }

  /** Infohashes of the joined groups. */
  get groups(): ReadonlySet<InfoHash> {
    return this.#known.groups;
  }

  /**
   * Starts to look for members of a group.
   *
   * @param options.isNear true to meet only those on the local network. Default: false
   */
  join(group: InfoHash, { isNear = false }: { readonly isNear?: boolean } = {}): void {
    if (this.#known.join(group, { isNear })) this.#dialing.fill();
  }

  /** Leaves a group: no longer looks for its members, refuses them, and ends the connections to them. */
  leave(group: InfoHash): void {
    if (!this.#known.leave(group)) return;
    this.#editions.delete(group);
    for (const link of this.#links) if (link.group === group) link.drop();
    this.#dialing.fill();
  }

  /** Adds a peer that may be a member. It is connected to as soon as there is a place for it. */
  addPeer(peer: PeerRecord): void {
    if (this.#known.add(peer)) this.#dialing.fill();
  }

  /** Returns true if a peer is not a member of our groups, as far as is known. */
  isForeign(peer: PeerRecord): boolean {
    return this.#known.isForeign(peer);
  }

  /** True while a connection is pending to a peer that may be a member and may answer soon. */
  get isMeeting(): boolean {
    if (this.groups.size === 0) return false;
    const now = performance.now();
    for (const link of this.#links) if (!this.#open.has(link) && !isSlowToAnswer(link.peer, now)) return true;
    return false;
  }

  /** Learns how long members usually take to send something. Call it about every 250 ms while something is fetched. */
  lookAtSilences(): void {
    this.#context.patience.look([...this.#open].flatMap(({ endedSilenceMs }) => endedSilenceMs ?? []));
  }

  /** Takes over the connection of a peer that has named one of our groups. */
  accept(socket: Socket, opening: Agreed): void {
    const { remoteAddress: host, remotePort: port } = socket;
    const group = opening.infoHash as InfoHash;
    if (this.#isClosed || host === undefined || port === undefined || !this.#known.mayMeet(group, host))
      socket.destroy();
    else this.#addLink(Link.adopt(socket, opening, { host: asIPv4IfMapped(host), port }, this.#context, this.#events));
  }

  /** Returns the connected members that may hear of a group: those that were met in it, and neighbours. */
  of(group: InfoHash): Member[] {
    return [...this.#open].filter((link) => link.group === group || link.isNeighbour);
  }

  /** Wants files from all present and later members. */
  want(files: Iterable<WantedFile>): void {
    const news = this.#context.wanted.add(files);
    for (const link of this.#open) link.telling.want(news);
  }

  /** Stops wanting files: they are here, or no longer needed. */
  unwant(files: Iterable<FileHash>): void {
    const gone = this.#context.wanted.delete(files);
    for (const link of this.#open) link.telling.unwant(gone);
  }

  /** Returns the editions of the hash map of a group that connected members say they hold. They may have said it before. */
  editionsOf(group: InfoHash): [PeerRecord, Edition][] {
    return [...this.#open].flatMap(({ peer, editions }): [PeerRecord, Edition][] => {
      const edition = editions.get(group);
      return edition === undefined ? [] : [[peer, edition]];
    });
  }

  /** Tells present and later members which edition of a hash map is here. */
  tellEdition(edition: Edition): void {
    this.#editions.set(edition.group, edition);
    for (const link of this.#open) link.telling.edition(edition);
  }

  /**
   * Tells neighbours that want the same files how much of them is here, so that they need not fetch them from an
   * upstream.
   */
  tellFetching(files: readonly { readonly file: FileHash; readonly heldBytes: number }[]): void {
    if (files.length === 0 || this.#open.size === 0) return;
    const fetches = files.map(({ file, heldBytes }) => ({
      prefix: this.#context.wanted.get(file)?.prefix ?? prefixOf(file),
      heldBytes,
    }));
    for (const link of this.#open) link.telling.fetching(fetches);
  }

  /** Ends the connection to a member that lied, and never connects to it again in this process. */
  ban(member: Member, reason: string): void {
    const { peers } = this.#context;
    peers.ban(member.peer.address, reason);
    for (const link of [...this.#links].filter(({ peer }) => peer === member.peer)) {
      // A peer that connected to us chose the port that it claims. So its host may not connect again.
      if (!link.isOutgoing) peers.ban(`${link.host}:`, reason);
      link.drop(); // the lie may have come over another connection
    }
  }

  /** Ends all connections. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#lookTimer);
    this.#dialing.close();
    this.#context.offer.off('news', this.#onNews);
    this.#context.offer.off('piece', this.#onPiece);
    this.#pieceNews[Symbol.dispose]();
    for (const link of this.#links) link.drop();
  }

  readonly #onNews = (prefix: FilePrefix): void => {
    const asking = [...this.#open].filter((link) => link.lacks(prefix));
    if (asking.length === 0 || this.#context.offer.holds(prefix) !== 'whole') return;
    for (const link of asking) link.telling.arrived(prefix);
  };

  readonly #pieceNews = new PieceNews((pieces) => {
    for (const link of this.#open) for (const { prefix, index } of pieces) link.telling.piece(prefix, index);
  });

  readonly #onPiece = (prefix: FilePrefix, index: number): void => this.#pieceNews.add(prefix, index);

  readonly #events: LinkEvents = {
    opened: (link) => this.#onOpened(link),
    have: (link, file) => this.emit('have', link, file),
    known: (link) => this.emit('known', link),
    piece: (link, file) => this.emit('piece', link, file),
    edition: (link, edition) => {
      if (this.groups.has(edition.group)) this.emit('edition', link, edition);
    },
    closed: (link) => this.#onGone(link),
  };

  #onOpened(link: Link): void {
    this.#known.onOpened(link);
    const other = [...this.#open].find((one) => one.peerId === link.peerId && one.host === link.host);
    const loser = other && this.#loserOf(other, link);
    if (loser !== link) {
      this.#open.add(link);
      this.emit('member', link);
      for (const edition of this.#editions.values()) link.telling.edition(edition);
    }
    if (loser === undefined) return;
    loser.drop();
    this.#dialing.pause(loser.peer, ALIAS_MS);
  }

  /** Returns the connection to end if there are two to one member. Both sides choose the same one. */
  #loserOf(older: Link, newer: Link): Link {
    if (older.isOutgoing === newer.isOutgoing) return older; // its other side has ended it, or has another name
    const isOurs = this.#context.peerId.toString('hex') < newer.peerId;
    return newer.isOutgoing === isOurs ? older : newer;
  }

  #onGone(link: Link): void {
    this.#links.delete(link);
    if (this.#open.delete(link)) this.emit('gone', link);
    if (link.isOutgoing) this.#dialing.onEnded(link);
    this.#dialing.fill(); // a peer that is connected already needs no second connection
  }

  #addLink(link: Link): Link {
    this.#links.add(link);
    return link;
  }

  #look(): void {
    const now = performance.now();
    if (now - this.#lookedAtMs > 2 * LOOK_EVERY_MS) this.#wokeAtMs = now;
    this.#lookedAtMs = now;
    for (const link of this.#open) link.look(now, this.#wokeAtMs);
  }
}
