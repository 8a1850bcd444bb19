import { sha1 } from '../bytes/hash-thread.ts';
import { MAX_PEERS } from '../wire/bounds.ts';
import { withinMs } from '../within.ts';
import { PIECE_HASH_BYTES, type NarTorrent } from '../torrent/canonical.ts';
import { connectPeer } from './connect-peer.ts';
import { useNarExchange, type NarExchange, type ServeNar } from './nar-exchange.ts';
import {
  isSilent,
  isSlowToAnswer,
  noteGoodBytes,
  noteSilence,
  type PeerRecord,
  type PeerTable,
} from '../discovery/peer-table.ts';
import type { OpenTorrent } from './open-torrent.ts';

/** A member that was asked and has sent nothing for so long is silent. */
const SILENT_MS = 1_000;
/** Members that we keep a connection to. */
const MEMBERS = 12;
/** Connections that are being made while those places are not taken: machines that are off do not answer for long. */
const MAX_DIALS = 256;
/** How often to look for a place that nobody has taken. */
const FILL_EVERY_MS = 150;
/** A member whose connection ended is tried again after so long; one that has sent good bytes much sooner. */
const RECONNECT_MS = 10_000;
const RECONNECT_PROVEN_MS = 1_000;
/** A NAR that does not come is looked after so often. */
const LOOK_EVERY_MS = 250;
/** Another member is asked, too, if that one would have sent the NAR so many times sooner. */
const SOONER = 2;
/** Bytes a second that a member is assumed to send while it is not known: enough for all to be asked. */
const UNKNOWN_RATE = 1_000_000;
/** How long a NAR waits for the first connection to a member. */
const CONNECT_MS = 1_000;

/**
 * The members of the cohorts that this process follows, each over one connection, and the small NARs that they give
 * each other over it.
 */
export class Cohort {
  readonly #peers: PeerTable;
  readonly #serve: ServeNar;
  readonly #exchanges = new Set<NarExchange>();
  readonly #swarms: OpenTorrent[] = [];
  readonly #members = new Set<PeerRecord>();
  /** Members that are connected to, or are being connected to. */
  readonly #connecting = new Map<string, PeerRecord>();
  #fillTimer: NodeJS.Timeout | undefined;
  readonly #notBefore = new Map<string, number>();
  #isReady = Promise.withResolvers<void>();

  constructor(peers: PeerTable, serve: ServeNar) {
    this.#peers = peers;
    this.#serve = serve;
  }

  /** Meets others in the swarm of a cohort: a torrent without metadata, where nothing but the exchange happens. */
  meet(swarm: OpenTorrent): void {
    this.#swarms.push(swarm);
    // There is no metadata of a cohort, and nobody asks for it: a stranger's claims of it are not looked at.
    swarm.on('connection', (connection, wire) => {
      const exchange = useNarExchange(connection, wire, this.#serve, this.#peers);
      connection.once('close', () => this.#exchanges.delete(exchange));
      connection.on('extensions', () => {
        if (!exchange.isOpen || this.#exchanges.has(exchange)) return;
        this.#exchanges.add(exchange);
        this.#isReady.resolve();
      });
    });
  }

  /** Members that are connected and give NARs. */
  get size(): number {
    return this.#exchanges.size;
  }

  /** Takes in a member; it is connected to as soon as there is a place for it. */
  addMember(peer: PeerRecord): void {
    if (this.#members.size >= MAX_PEERS) this.#forgetEvicted();
    this.#members.add(peer);
    this.#fill();
  }

  /** Lets go of those that the table of peers has let go of. */
  #forgetEvicted(): void {
    for (const peer of this.#members) {
      if (this.#peers.get(peer.address) === peer) continue;
      this.#members.delete(peer);
      this.#notBefore.delete(peer.address);
    }
  }

  /**
   * Connects to members that are not connected, as many as there are places; to nobody once a swarm is closed. A member
   * that does not answer at once, or sends nothing when it is asked, keeps nobody else from being tried.
   */
  #fill(): void {
    if (this.#swarms.some((swarm) => swarm.isClosed)) return;
    const now = performance.now();
    const counts = (peer: PeerRecord): boolean => !isSlowToAnswer(peer, now) && !isSilent(peer, now);
    const free = MEMBERS - [...this.#connecting.values()].filter(counts).length;
    const rest = [...this.#members].filter(
      ({ address, notBeforeMs }) =>
        !this.#connecting.has(address) && now >= Math.max(notBeforeMs, this.#notBefore.get(address) ?? 0),
    );
    for (const peer of this.#peers.choose(free, rest)) {
      if (this.#connecting.size >= MAX_DIALS) break;
      this.#connecting.set(peer.address, peer);
      for (const swarm of this.#swarms) connectPeer(swarm, peer, () => this.#onGone(peer));
    }
    if (this.#fillTimer !== undefined || this.#connecting.size >= this.#members.size) return;
    this.#fillTimer = setTimeout(() => {
      this.#fillTimer = undefined;
      this.#fill();
    }, FILL_EVERY_MS).unref();
  }

  /** A place is free; who left it is not the first to get it again. */
  #onGone(peer: PeerRecord): void {
    const pauseMs = peer.bytes > 0 && !isSilent(peer) ? RECONNECT_PROVEN_MS : RECONNECT_MS;
    this.#connecting.delete(peer.address);
    this.#notBefore.set(peer.address, performance.now() + pauseMs);
    this.#fill();
    setTimeout(() => this.#fill(), pauseMs + 1).unref();
  }

  /**
   * Asks the members for a NAR of one piece: the one that will have sent it first, and a second one while that one is
   * silent or turns out slow. The first to deliver wins. A member that sends other bytes is banned, one that sends nothing
   * for `patienceMs` is passed over.
   *
   * @param options.mayBeSilent false: without members that have sent nothing when they were asked
   * @returns its bytes, whose SHA-1 fits the torrent, and who sent them; undefined where no member has it
   */
  async request(
    torrent: NarTorrent,
    options: { onLie: (address: string) => void; patienceMs: number; mayBeSilent?: boolean; signal: AbortSignal },
  ): Promise<{ bytes: Uint8Array; address: string } | undefined> {
    if (torrent.pieces.length !== PIECE_HASH_BYTES) return undefined;
    if (this.#exchanges.size === 0) await this.#connected();
    const { mayBeSilent = true } = options;
    const stop = new AbortController();
    const signal = AbortSignal.any([options.signal, stop.signal]);
    const asked = new Set<NarExchange>();
    const running = new Map<NarExchange, Promise<Answer>>();
    try {
      for (;;) {
        const next = this.#soonest(torrent, asked, mayBeSilent);
        const atWork = [...running.keys()].filter((exchange) => !this.#isLeft(exchange));
        if (next !== undefined && atWork.length < 2 && atWork.every((one) => isSlower(one, next, torrent))) {
          asked.add(next);
          running.set(next, this.#ask(next, torrent, { ...options, signal }));
        } else if (atWork.length === 0) return undefined; // no member, or silent ones alone
        const answer = await withinMs(LOOK_EVERY_MS, Promise.race(running.values()));
        if (answer === undefined) continue;
        running.delete(answer.exchange);
        if (answer.bytes !== undefined) return { bytes: answer.bytes, address: answer.exchange.address };
        if (options.signal.aborted) return undefined;
      }
    } finally {
      stop.abort(ANSWERED);
    }
  }

  /** True if no peer at all has sent anything for a moment. */
  get #isLineSilent(): boolean {
    return this.#peers.line.isSilent();
  }

  /** Asks one member, and checks what it sends. */
  async #ask(
    exchange: NarExchange,
    torrent: NarTorrent,
    options: { onLie: (address: string) => void; patienceMs: number; signal: AbortSignal },
  ): Promise<Answer> {
    const isLineSilent = (): boolean => this.#isLineSilent;
    const bytes = await exchange.ask(torrent.infoHash, torrent.sizeBytes, { ...options, isLineSilent });
    if (bytes === undefined) return { exchange };
    if ((await sha1(bytes)) === Buffer.from(torrent.pieces).toString('hex')) {
      noteGoodBytes(exchange.peer, bytes.length);
      return { exchange, bytes };
    }
    this.#peers.ban(exchange.address, 'sent a NAR that fails its SHA-1');
    options.onLie(exchange.address);
    exchange.drop();
    return { exchange };
  }

  /** True if a member is silent that was asked, and not the line. */
  #isLeft({ peer, silentMs }: NarExchange): boolean {
    if (silentMs <= SILENT_MS || (peer.bytes > 0 && this.#isLineSilent)) return false;
    noteSilence(peer);
    return true;
  }

  /** The member that will have sent a NAR first, for all that is known; those that are silent come last. */
  #soonest(torrent: NarTorrent, asked: ReadonlySet<NarExchange>, mayBeSilent: boolean): NarExchange | undefined {
    let best: { exchange: NarExchange; ms: number } | undefined;
    for (const exchange of this.#exchanges) {
      if (!exchange.isOpen || asked.has(exchange) || exchange.lacks(torrent.infoHash)) continue;
      const comesLast = isSilent(exchange.peer);
      if (comesLast && !mayBeSilent) continue;
      const ms = (comesLast ? 1e9 : 0) + expectedMs(exchange, exchange.queuedBytes + torrent.sizeBytes);
      if (best === undefined || ms < best.ms) best = { exchange, ms };
    }
    return best?.exchange;
  }

  /** Waits for the first connection, a moment, where one is being made. */
  async #connected(): Promise<void> {
    if (this.#connecting.size === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([this.#isReady.promise, new Promise((resolve) => (timer = setTimeout(resolve, CONNECT_MS)))]);
    clearTimeout(timer);
  }
}

/** Answer of one member: good bytes, or none. */
interface Answer {
  readonly exchange: NarExchange;
  readonly bytes?: Uint8Array;
}

/** One for all: an abort without a reason makes an error with a stack each time. */
const ANSWERED = new Error('another member has answered');

/** How long a member takes to send so many bytes. */
function expectedMs({ peer }: NarExchange, bytes: number): number {
  const nowMs = performance.now();
  const rate = peer.rate.isSettled(nowMs) ? peer.rate.rate(nowMs) : undefined;
  return (bytes / Math.max(1, rate ?? UNKNOWN_RATE)) * 1000;
}

/** True if another member would have sent a NAR much sooner than the one that was asked for it. */
function isSlower(current: NarExchange, next: NarExchange, { infoHash, sizeBytes }: NarTorrent): boolean {
  if (!current.peer.rate.isSettled(performance.now())) return false;
  return expectedMs(current, current.bytesUntil(infoHash)) > SOONER * expectedMs(next, next.queuedBytes + sizeBytes);
}
