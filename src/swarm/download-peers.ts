import {
  isSilent,
  noteGoodBytes,
  noteSilence,
  strangerAt,
  type PeerRecord,
  type PeerTable,
} from '../discovery/peer-table.ts';
import { PIECE_HASH_BYTES } from '../torrent/canonical.ts';
import type { PeerConnection } from '../wire/peer-connection.ts';
import type { DiskBacklog } from './disk-backlog.ts';
import type { OpenTorrent } from './open-torrent.ts';
import { PieceLedger } from './piece-ledger.ts';

/** Time without a byte after which a peer that was asked is silent: others are asked for its blocks. */
const SILENT_MS = 1_000;
/** Time without a byte after which a peer that was asked is dropped. */
const STALL_MS = 5_000;
/** The same time for a peer that has sent before, while no peer sends: then the line is to blame, and may come back. */
const LINE_OUT_MS = 15_000;
/** Time after which a peer that chokes us is no longer counted on. It may still give us a turn. */
const TURN_SOON_MS = 3_000;
/** Time since its last byte, of any torrent, during which a peer counts as busy with our other torrents. */
const BUSY_MS = 2_000;
const LOOK_EVERY_MS = 250;

export interface DownloadPeersOptions {
  readonly peers: PeerTable;
  readonly backlog: DiskBacklog;
  /** Called with the payload bytes of each requested block that arrives. */
  readonly onBytes?: (bytes: number, address: string) => void;
  /** Called with the bytes of each piece that is right. */
  readonly onVerified?: (bytes: number) => void;
  /** Called once for each peer that has sent wrong bytes. It is banned. */
  readonly onLie?: (address: string) => void;
  /** Called when a peer turns out to accept requests and send nothing. */
  readonly onSilent?: () => void;
}

/** A piece that is requested from one peer only, since it was bad and several peers had sent parts of it. */
interface Trial {
  readonly index: number;
  readonly owner: PeerConnection;
  readonly others: readonly PeerConnection[];
}

/**
 * The peers that a torrent is downloaded from: the requests to each, its blocks, its silence and its lies. WebTorrent
 * chooses the block and the peer of each request. This class decides which peers it may ask.
 */
export class DownloadPeers {
  readonly #torrent: OpenTorrent;
  readonly #options: DownloadPeersOptions;
  readonly #records = new WeakMap<PeerConnection, PeerRecord>();
  readonly #liars = new Set<string>();
  #ledger: PieceLedger<PeerConnection> | undefined;
  #trial: Trial | undefined;

  constructor(torrent: OpenTorrent, options: DownloadPeersOptions) {
    this.#torrent = torrent;
    this.#options = options;
    torrent.on('connection', (connection) => this.#follow(connection));
    const timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
    torrent.handle.once('close', () => clearInterval(timer));
  }

  /** The ledger of the pieces. Use it only once the torrent's metadata is known. */
  get ledger(): PieceLedger<PeerConnection> {
    this.#ledger ??= new PieceLedger(piecesOf(this.#torrent));
    return this.#ledger;
  }

  /** Number of peers that are not silent, and do not keep us waiting. */
  get reliable(): number {
    const nowMs = performance.now();
    return this.#torrent.connections.filter(
      (connection) =>
        nowMs - (connection.asking.waitsSinceMs ?? nowMs) < TURN_SOON_MS && !this.#isUnreliable(connection, nowMs),
    ).length;
  }

  /** True if there are peers, and all are known to accept requests and send nothing. */
  get areAllSilent(): boolean {
    const { connections } = this.#torrent;
    return connections.length > 0 && connections.every((connection) => isSilent(this.#recordOf(connection)));
  }

  /** True while a peer has a missing piece and chokes us, or sends us another torrent first. */
  get isQueued(): boolean {
    const nowMs = performance.now();
    return this.#torrent.connections.some(
      (connection) => connection.asking.waitsSinceMs !== undefined || this.#isBusyForUs(connection, nowMs),
    );
  }

  /** Records that a piece is right. */
  onGood(index: number, bytes: Uint8Array): void {
    const { bytesBySender, liars } = this.ledger.onGood(index, bytes);
    for (const [connection, sent] of bytesBySender) noteGoodBytes(this.#recordOf(connection), sent);
    for (const liar of liars) this.#ban(liar);
    if (this.#trial?.index === index) this.#endTrial();
    this.#options.onVerified?.(bytes.length);
  }

  #follow(connection: PeerConnection): void {
    const { peers, onBytes } = this.#options;
    const { address } = connection;
    const peer = this.#recordOf(connection);
    const settle = (length: number): void => {
      peer.inFlightBytes -= length;
      peer.rate.end(performance.now());
    };
    connection.asking.downloader = {
      request: (index, offset) => {
        const { known, suspects } = this.ledger.request(index, offset);
        if (suspects.size > 0) this.#onBadPiece(index, [...suspects]);
        return known;
      },
      asked: ({ length }) => {
        peer.inFlightBytes += length;
        peer.rate.begin(performance.now());
      },
      received: (block, bytes) => {
        const nowMs = performance.now();
        peer.rate.add(bytes.length, nowMs);
        settle(bytes.length);
        peers.line.onBytes(nowMs);
        this.ledger.received(block, bytes, connection);
        for (const other of this.#torrent.connections)
          if (other !== connection) other.asking.onSentByOther(block.index, block.offset, bytes);
        onBytes?.(bytes.length, address);
      },
      lost: ({ length }) => settle(length),
    };
  }

  /**
   * Handles a bad piece. Bans a peer that sent all of it. If several peers sent parts, requests it again from one of
   * them alone: that peer's piece is bad, too, or it shows who lied.
   */
  #onBadPiece(index: number, suspects: readonly PeerConnection[]): void {
    const [only, ...others] = new Set(suspects.map(({ address }) => address));
    if (others.length === 0 && only !== undefined) {
      for (const connection of suspects) this.#ban(connection);
      if (this.#trial?.index === index) this.#endTrial();
      return;
    }
    if (this.#trial !== undefined) return;
    const open = suspects
      .filter(({ destroyed }) => !destroyed)
      .toSorted((a, b) => this.#recordOf(b).bytes - this.#recordOf(a).bytes);
    const [owner, ...rest] = open;
    if (owner === undefined) return;
    this.#trial = { index, owner, others: rest };
    for (const connection of rest) connection.asking.setAside('suspect');
  }

  #endTrial(): void {
    const { others = [] } = this.#trial ?? {};
    this.#trial = undefined;
    for (const { asking, destroyed } of others) if (!destroyed) asking.takeBack('suspect');
  }

  #ban({ address }: PeerConnection): void {
    const { peers, onLie } = this.#options;
    if (this.#liars.has(address)) return;
    this.#liars.add(address);
    peers.ban(address, 'sent a piece that fails its SHA-1');
    for (const connection of this.#torrent.connections) if (connection.address === address) connection.destroy();
    onLie?.(address);
  }

  /** Checks the peers. Silent ones are not asked while others send, and are dropped after some time. */
  #look(): void {
    const nowMs = performance.now();
    const isLineSilent = this.#options.peers.line.isSilent(nowMs);
    for (const connection of this.#torrent.connections) {
      const peer = this.#recordOf(connection);
      const silentMs = this.#silentMs(connection, nowMs);
      const isLine = isLineSilent && peer.bytes > 0; // then the line is to blame
      if (this.#isBusyForUs(connection, nowMs)) continue; // on a slow line its other torrents may take all of it
      if (silentMs > SILENT_MS && !isLine && noteSilence(peer, nowMs)) this.#options.onSilent?.();
      if (silentMs > (isLine ? LINE_OUT_MS : STALL_MS)) connection.destroy();
    }
    const connections = this.#torrent.connections;
    const isCovered = connections.some(
      (connection) => connection.asking.isAsked && !this.#isUnreliable(connection, nowMs),
    );
    for (const connection of connections) {
      if (!isCovered) connection.asking.takeBack('silent');
      else if (this.#isUnreliable(connection, nowMs)) connection.asking.setAside('silent');
    }
    const { owner } = this.#trial ?? {};
    if (owner !== undefined && (!owner.asking.isAsked || owner.destroyed)) this.#endTrial();
    if (connections.every(({ asking }) => asking.owesSinceMs === undefined))
      for (const { asking } of connections) asking.remind();
  }

  /** Returns true if a peer that owes this torrent something is sending another one. */
  #isBusyForUs(connection: PeerConnection, nowMs: number): boolean {
    return (
      connection.asking.owesSinceMs !== undefined && nowMs - this.#recordOf(connection).rate.lastByteAtMs < BUSY_MS
    );
  }

  #isUnreliable(connection: PeerConnection, nowMs: number): boolean {
    return this.#silentMs(connection, nowMs) > SILENT_MS || isSilent(this.#recordOf(connection), nowMs);
  }

  /**
   * Returns the milliseconds in which a peer could have sent something and did not. Leaves out times when our own limit
   * or the disk held it back. For a peer that has sent before, also leaves out times when the line was out.
   */
  #silentMs(connection: PeerConnection, nowMs: number): number {
    const { backlog, peers } = this.#options;
    const { owesSinceMs } = connection.asking;
    if (owesSinceMs === undefined || backlog.isFull) return 0;
    const backAtMs = this.#recordOf(connection).bytes > 0 ? peers.line.backAtMs : 0;
    return Math.max(0, nowMs - Math.max(owesSinceMs, connection.heldUntilMs, backlog.freeAtMs, backAtMs));
  }

  #recordOf(connection: PeerConnection): PeerRecord {
    const { address } = connection;
    let record = this.#records.get(connection);
    if (record === undefined) {
      record = this.#options.peers.get(address) ?? strangerAt(address);
      this.#records.set(connection, record);
    }
    return record;
  }
}

function piecesOf({ handle }: OpenTorrent): ConstructorParameters<typeof PieceLedger>[0] {
  const { length: lengthBytes, pieceLength, info } = handle;
  const hashes = Buffer.from(info?.pieces ?? []);
  const sha1 = (index: number): string =>
    hashes.toString('hex', index * PIECE_HASH_BYTES, (index + 1) * PIECE_HASH_BYTES);
  return { lengthBytes, pieceLength, sha1 };
}
