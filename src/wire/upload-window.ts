import { isLendingMuch } from '../bytes/lent-buffers.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { MAX_DATA_BYTES, MAX_OPEN_REQUESTS, MAX_UNSENT_PER_PEER_BYTES } from './bounds.ts';
import { PIECE_HEAD_BYTES } from './messages.ts';
import { WaitingQuestions } from './waiting-questions.ts';

/** Bytes of a waiting question: a few numbers in a list. */
const WAITING_REQUEST_BYTES = 100;
/** Bytes of blocks, with their heads, that are read and sent together: one lent buffer. */
const ANSWER_BYTES = 256 * 1024;
/** Answers of a second under a limit of our own: all who wait for it hear of us often. */
const ANSWERS_PER_SECOND = 8;

/** A request of a peer: for a block, or for a piece of metadata. */
export interface Question {
  readonly of: 'block' | 'metadata';
  readonly index: number;
  readonly offset: number;
  /** Bytes of the answer. */
  readonly length: number;
}

export interface UploadWindowOptions {
  /** Answers a question, and with it blocks that follow in the torrent. Resolves when the answer is sent. */
  readonly answer: (questions: readonly Question[]) => Promise<void>;
  /** Calls back when it is the turn of this peer. */
  readonly takeTurn: (answer: () => Promise<void>) => Promise<void>;
  /** Returns true if a block begins where the one before ends. */
  readonly follows: (block: Question, before: Question) => boolean;
  /** Returns answered bytes that the peer has not taken. */
  readonly unsentBytes: () => number;
  /** Asks for room for an answer. If there is none, {@link UploadWindow.pump} is called later. */
  readonly take: (bytes: number) => boolean;
  /** Counts the memory of a waiting question. */
  readonly note: (bytes: number) => void;
  /** Limit on the rate of answers. */
  readonly limit?: RateLimit | undefined;
}

/** Holds the questions of one peer back until it is their turn, and the peer has read earlier answers. */
export class UploadWindow {
  readonly #options: UploadWindowOptions;
  readonly #waiting = new WaitingQuestions();
  /** Questions that are being answered, and their bytes. */
  #answering = 0;
  #answeringBytes = 0;
  /** True from when a turn is asked for to the end of the answer. */
  #isBusy = false;
  /** Set while the limit says to wait. */
  #pause: NodeJS.Timeout | undefined;

  constructor(options: UploadWindowOptions) {
    this.#options = options;
  }

  /** The memory of the questions and of their answers. */
  get heldBytes(): number {
    return this.#answeringBytes + this.#waiting.size * WAITING_REQUEST_BYTES;
  }

  /** Takes a question. @returns false if the peer has more open questions than any client */
  ask(question: Question): boolean {
    if (this.#waiting.size + this.#answering >= MAX_OPEN_REQUESTS) return false;
    this.#waiting.push(question);
    this.#options.note(WAITING_REQUEST_BYTES);
    this.pump();
    return true;
  }

  /** Withdraws a waiting question. One that is being answered is left alone. @returns true if it waited */
  cancel(index: number, offset: number, length: number): boolean {
    return this.#waiting.cancel(index, offset, length);
  }

  /** Drops the waiting questions for blocks. @returns them */
  forgetBlocks(): readonly Question[] {
    return this.#waiting.forgetBlocks();
  }

  /** Answers on, if there is room. */
  pump(): void {
    if (this.#isBusy || this.#pause !== undefined || this.#waiting.size === 0 || !this.#hasRoom) return;
    this.#isBusy = true;
    // A microtask later: requests come many at a time, and those that follow each other are answered together.
    queueMicrotask(() => {
      void this.#options.takeTurn(() => this.#answerNext());
    });
  }

  get #hasRoom(): boolean {
    return this.#options.unsentBytes() < MAX_UNSENT_PER_PEER_BYTES;
  }

  /** Never rejects. */
  async #answerNext(): Promise<void> {
    const questions = this.#next();
    const bytes = questions.reduce((sum, { length }) => sum + length, 0);
    this.#answering = questions.length;
    this.#answeringBytes = bytes;
    const waitMs = bytes === 0 ? 0 : (this.#options.limit?.take(bytes) ?? 0);
    if (waitMs > 0) this.#wait(waitMs);
    if (bytes > 0) await this.#options.answer(questions);
    this.#answering = 0;
    this.#answeringBytes = 0;
    this.#isBusy = false;
    if (bytes > 0) this.pump(); // else there was no room, and whoever has some calls
  }

  /** Takes the questions that are answered together, as far as there is room for the answers. */
  #next(): readonly Question[] {
    const mostBytes = this.#mostBytes();
    const questions: Question[] = [];
    for (let bytes = 0; this.#hasRoom;) {
      const next = this.#waiting.first();
      const before = questions.at(-1);
      if (next === undefined) break;
      bytes += next.length + PIECE_HEAD_BYTES;
      if (before !== undefined && (bytes > mostBytes || !this.#options.follows(next, before))) break;
      if (!this.#options.take(next.length)) break;
      this.#waiting.dropFirst();
      questions.push(next);
    }
    return questions;
  }

  /** While much is in use, less is read at a time, so that no block that waits keeps the memory of another that is sent. */
  #mostBytes(): number {
    const rate = this.#options.limit?.rateBytesPerSec ?? Infinity;
    return Math.min(isLendingMuch() ? MAX_DATA_BYTES : ANSWER_BYTES, rate / ANSWERS_PER_SECOND);
  }

  #wait(waitMs: number): void {
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.pump();
    }, waitMs).unref();
  }
}
