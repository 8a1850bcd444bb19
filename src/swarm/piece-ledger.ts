import { hash } from 'node:crypto';

/** Length of a block that every BitTorrent client serves (BEP 3), and that WebTorrent requests. */
export const BLOCK_BYTES = 16 * 1024;
/** Limit on bad tries at one piece whose bytes are kept until the right bytes show who lied. */
const MAX_TRIES_KEPT = 2;

/** The first blocks of an incomplete piece. */
export interface PieceStart {
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** The shape of the recorded pieces. */
export interface PieceHashes {
  readonly lengthBytes: number;
  readonly pieceLength: number;
  /** Returns the SHA-1 of a piece in lower-case hex. */
  readonly sha1: (index: number) => string;
}

/** The senders of a piece that is right. */
export interface GoodPiece<Sender> {
  readonly bytesBySender: ReadonlyMap<Sender, number>;
  /** Senders of other bytes in a bad try. */
  readonly liars: ReadonlySet<Sender>;
}

interface Try<Sender> {
  readonly blocks: readonly (Uint8Array | undefined)[];
  readonly senders: readonly (Sender | undefined)[];
}

interface Piece<Sender> {
  readonly blocks: (Uint8Array | undefined)[];
  readonly senders: (Sender | undefined)[];
  /** Blocks that the swarm was given. */
  readonly given: Set<number>;
  readonly badTries: Try<Sender>[];
  attempt: number;
}

/**
 * Records who sent which block of the arriving pieces. WebTorrent checks each piece, but does not report a bad one: it
 * only requests its blocks again. A second request is therefore the moment to check. If several peers sent parts of a
 * bad piece, the right bytes show later who lied.
 */
export class PieceLedger<Sender extends object> {
  readonly #shape: PieceHashes;
  readonly #pieces = new Map<number, Piece<Sender>>();

  constructor(shape: PieceHashes) {
    this.#shape = shape;
  }

  /**
   * Records that a block is requested.
   *
   * @returns `known`: the block if it is already here, otherwise the number of its try; `suspects`: the senders of the
   *   piece if it turns out to be bad
   */
  request(index: number, offset: number): { readonly known: Uint8Array | number; readonly suspects: Set<Sender> } {
    const piece = this.#piece(index);
    const suspects = this.#isBad(index, piece) ? this.#beginAgain(index, piece) : new Set<Sender>();
    const block = Math.floor(offset / BLOCK_BYTES);
    const bytes = piece.blocks[block];
    if (bytes === undefined) return { known: piece.attempt, suspects };
    piece.given.add(block);
    return { known: bytes, suspects };
  }

  /** Records a block. Ignores one that belongs to an earlier try. */
  received(block: { index: number; offset: number; attempt: number }, bytes: Uint8Array, sender: Sender): void {
    const piece = this.#pieces.get(block.index);
    const at = Math.floor(block.offset / BLOCK_BYTES);
    if (piece?.attempt !== block.attempt || piece.blocks[at] !== undefined) return;
    piece.blocks[at] = bytes;
    piece.senders[at] = sender;
    piece.given.add(at);
  }

  /** Records that a piece is right, and forgets it. */
  onGood(index: number, bytes: Uint8Array): GoodPiece<Sender> {
    const piece = this.#pieces.get(index);
    this.#pieces.delete(index);
    const bytesBySender = new Map<Sender, number>();
    for (const [at, sender] of piece?.senders.entries() ?? []) {
      const length = piece?.blocks[at]?.length ?? 0;
      if (sender !== undefined) bytesBySender.set(sender, (bytesBySender.get(sender) ?? 0) + length);
    }
    const liars = new Set(piece?.badTries.flatMap((one) => liarsOf(one, bytes)));
    return { bytesBySender, liars };
  }

  /** Puts back the whole blocks of a piece that an earlier download left. */
  putBack({ index, bytes }: PieceStart): void {
    const piece = this.#piece(index);
    const count = this.#blocksOf(index);
    for (let at = 0; at < count; at++) {
      const to = Math.min((at + 1) * BLOCK_BYTES, this.#lengthOf(index));
      if (to <= bytes.length) piece.blocks[at] ??= bytes.subarray(at * BLOCK_BYTES, to);
    }
  }

  /** Returns the first blocks of all pieces that are not known to be right. */
  beginnings(): PieceStart[] {
    const starts: PieceStart[] = [];
    for (const [index, { blocks }] of this.#pieces) {
      const first = Array.from(blocks).findIndex((block) => block === undefined);
      const front = (first === -1 ? blocks : blocks.slice(0, first)).filter((block) => block !== undefined);
      if (front.length > 0) starts.push({ index, bytes: Buffer.concat(front) });
    }
    return starts;
  }

  /** Returns true if the whole piece was given to the swarm and its bytes are wrong. */
  #isBad(index: number, { given, blocks }: Piece<Sender>): boolean {
    if (given.size < this.#blocksOf(index)) return false;
    // A block may get lost between a connection that ends and the swarm. Then the piece is right and is given again.
    const bytes = Buffer.concat(blocks.filter((block) => block !== undefined));
    return hash('sha1', bytes, 'hex') !== this.#shape.sha1(index);
  }

  #beginAgain(index: number, piece: Piece<Sender>): Set<Sender> {
    const suspects = new Set(piece.senders.filter((sender) => sender !== undefined));
    const badTries = [...piece.badTries, { blocks: [...piece.blocks], senders: [...piece.senders] }];
    const next = { blocks: [], senders: [], given: new Set<number>(), attempt: piece.attempt + 1 };
    this.#pieces.set(index, Object.assign(piece, next, { badTries: badTries.slice(-MAX_TRIES_KEPT) }));
    return suspects;
  }

  #piece(index: number): Piece<Sender> {
    let piece = this.#pieces.get(index);
    if (piece === undefined) {
      piece = { blocks: [], senders: [], given: new Set(), badTries: [], attempt: 0 };
      this.#pieces.set(index, piece);
    }
    return piece;
  }

  #lengthOf(index: number): number {
    const { lengthBytes, pieceLength } = this.#shape;
    return Math.min(pieceLength, lengthBytes - index * pieceLength);
  }

  #blocksOf(index: number): number {
    return Math.ceil(this.#lengthOf(index) / BLOCK_BYTES);
  }
}

/** Returns the senders whose blocks differ from the right bytes. */
function liarsOf<Sender>({ blocks, senders }: Try<Sender>, good: Uint8Array): Sender[] {
  return senders.filter((sender, at): sender is Sender & {} => {
    const block = blocks[at];
    const right = good.subarray(at * BLOCK_BYTES, at * BLOCK_BYTES + (block?.length ?? 0));
    return sender !== undefined && block !== undefined && Buffer.compare(block, right) !== 0;
  });
}
