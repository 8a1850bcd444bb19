/** Members of a group on loopback, with real connections, that give files from memory. */
import { EventEmitter } from 'node:events';
import { hash } from 'node:crypto';
import { BlockList } from 'node:net';
import { RateLimit } from '../../src/bytes/rate-limit.ts';
import { Members } from '../../src/exchange/members.ts';
import { prefixOf, type FilePrefix, type Refusal } from '../../src/exchange/messages/messages.ts';
import type { Asked, Offer, OfferedFile, OfferEvents } from '../../src/exchange/answers/offer.ts';
import type { PieceSet } from '../../src/exchange/messages/piece-set.ts';
import { PeerTable, type PeerRecord } from '../../src/discovery/peer-table.ts';
import type { FileHash, InfoHash, StoreHash } from '../../src/nix/brands.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import type { PacketBudget } from '../../src/wire/packet-budget.ts';
import { PeerServer } from '../../src/wire/peer-server.ts';
import type { ProcessorBudget } from '../../src/wire/processor-budget.ts';
import { SendBudget } from '../../src/wire/send-budget.ts';

export const GROUP = 'ab'.repeat(20) as InfoHash;

/** A file and its name. */
export interface MadeFile {
  readonly file: FileHash;
  readonly bytes: Buffer;
}

/** Makes a file of that many bytes, which depends on the seed. */
export function madeFile(sizeBytes: number, seed = 1): MadeFile {
  const bytes = Buffer.allocUnsafe(sizeBytes);
  for (let at = 0; at < sizeBytes; at++) bytes[at] = (Math.imul(at, 2_654_435_761) >>> 13) ^ Math.imul(seed, 7919);
  bytes.writeInt32BE(seed, 0);
  return { file: encodeNix32(hash('sha256', bytes, 'buffer')) as FileHash, bytes };
}

/** The files that a member gives, from memory. */
export class MadeOffer extends EventEmitter<OfferEvents> implements Offer {
  readonly files = new Map<FilePrefix, Buffer>();
  readonly pieces = new Map<FilePrefix, PieceSet>();
  readonly narInfos = new Map<StoreHash, string>();
  /** Ranges that were opened. */
  readonly asked: Asked[] = [];
  /** Number of files that are open. */
  openFiles = 0;
  /** Reason for which the next requests are refused, if any. */
  refusal: Refusal | undefined;
  /** Reads wait for this. */
  gate: Promise<void> = Promise.resolve();
  /** Makes the member send wrong bytes. */
  lies = false;
  /** Returns true if a read up to this byte of a file never ends. */
  stallsAt: (file: FilePrefix, to: number) => boolean = () => false;

  add(...files: readonly MadeFile[]): void {
    for (const { file, bytes } of files) {
      this.files.set(prefixOf(file), bytes);
      this.emit('news', prefixOf(file));
    }
  }

  addPiece({ file, bytes }: MadeFile, set: PieceSet, index: number): void {
    set.add(index);
    this.pieces.set(prefixOf(file), set);
    this.files.set(`${prefixOf(file)}-` as FilePrefix, bytes);
    this.emit('piece', prefixOf(file), index);
  }

  holds(prefix: FilePrefix): 'whole' | PieceSet | undefined {
    return this.files.has(prefix) ? 'whole' : this.pieces.get(prefix);
  }

  async open(file: FileHash | FilePrefix, asked: Asked): Promise<OfferedFile | Refusal> {
    this.asked.push(asked);
    await this.gate;
    if (this.refusal !== undefined) return this.refusal;
    const prefix = file.length === 52 ? prefixOf(file as FileHash) : (file as FilePrefix);
    const bytes = this.files.get(prefix) ?? this.files.get(`${prefix}-` as FilePrefix);
    if (bytes === undefined) return 'absent';
    this.openFiles++;
    return {
      prefix,
      sizeBytes: bytes.length,
      read: async (target, offset) => {
        if (this.stallsAt(prefix, offset + target.length)) await new Promise(() => undefined);
        target.set(bytes.subarray(offset, offset + target.length));
        if (this.lies) target[0]! ^= 1;
      },
      [Symbol.asyncDispose]: async () => {
        this.openFiles--;
      },
    };
  }

  async narInfo(storeHash: StoreHash): Promise<string | undefined> {
    return this.narInfos.get(storeHash);
  }
}

export interface MadeMember extends AsyncDisposable {
  readonly members: Members;
  readonly offer: MadeOffer;
  readonly peers: PeerTable;
  readonly port: number;
  /** Adds another member, as if it had been found. */
  meet(other: { readonly port: number }): PeerRecord;
  /** Adds a member that nobody has named, at an address of its own. */
  find(other: { readonly port: number }, host: string): void;
  uploadedBytes: number;
}

/** A limit that makes parts small and never waits. */
class SmallParts extends RateLimit {
  constructor(partBytes: number) {
    super(partBytes * 8);
  }

  override async pace(): Promise<void> {
    // no waiting
  }
}

/** Starts a member on loopback. */
export async function startMember(
  options: {
    readonly group?: InfoHash;
    readonly files?: readonly MadeFile[];
    readonly mayHave?: (host: string) => boolean;
    readonly budget?: SendBudget;
    readonly narInfos?: PacketBudget;
    readonly processor?: ProcessorBudget;
    readonly peerId?: Buffer;
    /** Whether others are on the local network. Default: yes. */
    readonly isNear?: boolean;
    /** Whether its group is only for the local network. Default: no. */
    readonly staysNear?: boolean;
    /** Address to listen on. Default: 127.0.0.1. */
    readonly host?: string;
    readonly downloadLimit?: RateLimit;
    readonly uploadLimit?: RateLimit;
    /** Bytes that are read and sent at a time. Default: as without a limit. */
    readonly partBytes?: number;
  } = {},
): Promise<MadeMember> {
  const { group = GROUP, files = [], mayHave = () => true, budget = new SendBudget() } = options;
  const peers = new PeerTable();
  const offer = new MadeOffer();
  offer.add(...files);
  let port = 0;
  const members = new Members({
    ...(options.narInfos === undefined ? {} : { narInfos: options.narInfos }),
    ...(options.processor === undefined ? {} : { processor: options.processor }),
    ...(options.peerId === undefined ? {} : { peerId: options.peerId }),
    downloadLimit: () => options.downloadLimit,
    uploadLimit: () => (options.partBytes === undefined ? options.uploadLimit : new SmallParts(options.partBytes)),
    port: () => port,
    peers,
    networks: { includes: () => options.isNear ?? true },
    mayHave,
    offer,
    budget,
    onUpload: (bytes) => (member.uploadedBytes += bytes),
  });
  const server = await PeerServer.listen({
    host: options.host ?? '127.0.0.1',
    ports: [0],
    admit: (socket) => !peers.isBannedHost(socket.remoteAddress ?? ''),
    infoHashOf: () => undefined,
    onPeer: async (socket, opening) => {
      if (opening.infoHash === group) members.accept(socket, opening);
      else socket.destroy();
    },
    onWarning: (error) => {
      throw error;
    },
  });
  port = server.port;
  members.join(group, { isNear: options.staysNear === true });
  const member: MadeMember = {
    members,
    offer,
    peers,
    port,
    uploadedBytes: 0,
    meet(other) {
      const record = peers.add({ host: '127.0.0.1', port: other.port });
      members.addPeer(record);
      return record;
    },
    find(other, host) {
      const record = peers.addFound({ host, port: other.port }, 'lan', new BlockList());
      if (record !== undefined) members.addPeer(record);
    },
    async [Symbol.asyncDispose]() {
      members.close();
      await server.close();
    },
  };
  return member;
}

/** Ends the process soon, if a test that has failed keeps connections open. */
export function endSoon(): void {
  setTimeout(() => process.exit(), 2_000).unref();
}
