import { giveBack } from '../bytes/lent-buffers.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { readPieceMessages, type Block, type ReadBlocks } from './block-answer.ts';
import type { Ends } from './ends.ts';
import { message } from './messages.ts';
import { KIND } from './protocol.ts';
import { UploadWindow, type Question } from './upload-window.ts';

export interface ServingSideOptions {
  /** False: the peer stays choked, even if the swarm unchokes it. */
  readonly gives: boolean;
  /** Returns true for pieces that are here. */
  readonly holds: (index: number) => boolean;
  readonly read: ReadBlocks;
  readonly pieceLength: () => number;
  /** Calls back when it is this peer's turn. */
  readonly takeTurn: (answer: () => Promise<void>) => Promise<void>;
  readonly unsentBytes: () => number;
  /** Asks for room for an answer. If there is none, {@link ServingSide.pump} is called later. */
  readonly take: (bytes: number) => boolean;
  /** Counts the memory of a waiting question. */
  readonly note: (bytes: number) => void;
  /** Limit on the rate of answers. */
  readonly limit: RateLimit | undefined;
  /** Called with the number of sent payload bytes. */
  readonly onUpload: (bytes: number) => void;
  /** Asks the swarm to send a piece of the metadata (BEP 9). */
  readonly askMetadata: (piece: number) => void;
}

/** Longest piece of metadata (BEP 9), with the head of its message. */
const METADATA_ANSWER_BYTES = 16_384 + 64;

/**
 * The requests of a peer. Answers a request only if the peer may have the block, the block is here, and there is room
 * for the answer. Does not pass requests to the swarm: it would take 10 microseconds for each block, as long as
 * everything else together.
 */
export class ServingSide {
  readonly #ends: Ends;
  readonly #options: ServingSideOptions;
  readonly #window: UploadWindow;
  #isChoked = true;
  #wasInterested = false;
  /** Called when the swarm has sent the requested piece of metadata. */
  #onMetadata: (() => void) | undefined;

  constructor(ends: Ends, options: ServingSideOptions) {
    this.#ends = ends;
    this.#options = options;
    this.#window = new UploadWindow({
      answer: (questions) => this.#answer(questions),
      takeTurn: options.takeTurn,
      follows: (block, before) => this.#follows(block, before),
      unsentBytes: options.unsentBytes,
      take: options.take,
      note: options.note,
      limit: options.limit,
    });
  }

  /** Memory of the open questions and their answers. */
  get heldBytes(): number {
    return this.#window.heldBytes;
  }

  /** Continues to answer when there is room again. */
  pump(): void {
    this.#window.pump();
  }

  /** Handles the end of the connection. */
  end(): void {
    this.onMetadataSent();
  }

  /** Handles the interest of the peer. The swarm unchokes it the first time, and an eager peer requests before that. */
  onInterested(): void {
    if (!this.#wasInterested) this.#isChoked = !this.#options.gives;
    this.#wasInterested = true;
  }

  onRequest(index: number, offset: number, length: number): void {
    if (this.#isChoked || !this.#options.holds(index)) this.#reject({ index, offset, length });
    else if (!this.#window.ask({ of: 'block', index, offset, length })) this.#ends.refuse();
  }

  onCancel(index: number, offset: number, length: number): void {
    if (this.#window.cancel(index, offset, length)) this.#reject({ index, offset, length });
  }

  onMetadataRequest(piece: number): void {
    const question = { of: 'metadata', index: piece, offset: 0, length: METADATA_ANSWER_BYTES } as const;
    if (!this.#window.ask(question)) this.#ends.refuse();
  }

  /** Handles a choke by the swarm: it answers all requests of the peer. */
  onChoke(): void {
    if (!this.#isChoked) this.#ends.toPeer(message(KIND.CHOKE));
    this.#isChoked = true;
    for (const block of this.#window.forgetBlocks()) this.#reject(block);
  }

  /** Handles an unchoke by the swarm. @returns true if the peer should get it */
  onUnchoke(): boolean {
    this.#isChoked = !this.#options.gives;
    return this.#options.gives;
  }

  onMetadataSent(): void {
    this.#onMetadata?.();
  }

  #follows(block: Question, before: Question): boolean {
    const placeOf = ({ index, offset }: Block): number => index * this.#options.pieceLength() + offset;
    return block.of === 'block' && before.of === 'block' && placeOf(block) === placeOf(before) + before.length;
  }

  /** Answers questions. Never rejects. */
  async #answer(questions: readonly Question[]): Promise<void> {
    const [first] = questions;
    if (first?.of === 'metadata') {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onMetadata = resolve;
      this.#options.askMetadata(first.index);
      return promise;
    }
    try {
      const messages = await readPieceMessages(questions, this.#options.read);
      this.#send(messages, questions);
    } catch {
      for (const block of questions) this.#reject(block); // the file is missing or cannot be read
    }
  }

  #send(messages: Buffer, blocks: readonly Block[]): void {
    if (this.#isChoked && !this.#ends.hasFast) return giveBack(messages); // the choke was the answer
    this.#ends.toPeer(messages);
    this.#options.onUpload(blocks.reduce((sum, { length }) => sum + length, 0));
  }

  /** Rejects a request. The fast extension rejects each one separately (BEP 6). */
  #reject({ index, offset, length }: Block): void {
    if (this.#ends.hasFast) this.#ends.toPeer(message(KIND.REJECT, index, offset, length));
  }
}
