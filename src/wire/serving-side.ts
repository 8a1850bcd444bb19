import { giveBack } from '../bytes/lent-buffers.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { readPieceMessages, type Block, type ReadBlocks } from './block-answer.ts';
import type { Ends } from './ends.ts';
import { message } from './messages.ts';
import { KIND } from './protocol.ts';
import { UploadWindow, type Question } from './upload-window.ts';

export interface ServingSideOptions {
  /** False: the peer stays choked, whatever the swarm says. */
  readonly gives: boolean;
  /** True for pieces that are here. */
  readonly holds: (index: number) => boolean;
  readonly read: ReadBlocks;
  readonly pieceLength: () => number;
  /** Calls back when it is the turn of this peer. */
  readonly takeTurn: (answer: () => Promise<void>) => Promise<void>;
  readonly unsentBytes: () => number;
  /** Asks for room for an answer; if there is none, {@link ServingSide.pump} is called later. */
  readonly take: (bytes: number) => boolean;
  /** Counts the memory of a question that waits. */
  readonly note: (bytes: number) => void;
  /** Questions are answered no faster. */
  readonly limit: RateLimit | undefined;
  /** Called with the payload bytes that are sent. */
  readonly onUpload: (bytes: number) => void;
  /** Has a piece of the metadata sent (BEP 9). */
  readonly askMetadata: (piece: number) => void;
}

/** Longest piece of metadata (BEP 9), with the head of its message. */
const METADATA_ANSWER_BYTES = 16_384 + 64;

/**
 * What a peer asks of us. A request is answered only if the peer may have the block, it is here, and there is room for
 * the answer. The swarm hears of none: it would take 10 microseconds for each block, as long as all else together.
 */
export class ServingSide {
  readonly #ends: Ends;
  readonly #options: ServingSideOptions;
  readonly #window: UploadWindow;
  #isChoked = true;
  #wasInterested = false;
  /** Called when the swarm has sent the piece of metadata that it was asked for. */
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

  /** Memory that the open questions and their answers take. */
  get heldBytes(): number {
    return this.#window.heldBytes;
  }

  /** Goes on answering where there is room again. */
  pump(): void {
    this.#window.pump();
  }

  /** The connection has ended. */
  end(): void {
    this.onMetadataSent();
  }

  /** The peer is interested. The first time the swarm will let it ask, and an eager peer does not wait for that. */
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

  /** The swarm chokes the peer: that answers all its requests. */
  onChoke(): void {
    if (!this.#isChoked) this.#ends.toPeer(message(KIND.CHOKE));
    this.#isChoked = true;
    for (const block of this.#window.forgetBlocks()) this.#reject(block);
  }

  /** The swarm lets the peer ask. @returns whether the peer is to hear it */
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

  /** Never rejects. */
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
      for (const block of questions) this.#reject(block); // the file is gone or cannot be read
    }
  }

  #send(messages: Buffer, blocks: readonly Block[]): void {
    if (this.#isChoked && !this.#ends.hasFast) return giveBack(messages); // the choke has answered
    this.#ends.toPeer(messages);
    this.#options.onUpload(blocks.reduce((sum, { length }) => sum + length, 0));
  }

  /** With the fast extension each request is turned down by name (BEP 6). */
  #reject({ index, offset, length }: Block): void {
    if (this.#ends.hasFast) this.#ends.toPeer(message(KIND.REJECT, index, offset, length));
  }
}
