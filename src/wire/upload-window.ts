import { isLendingMuch } from '../bytes/lent-buffers.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { MAX_DATA_BYTES, MAX_OPEN_REQUESTS, MAX_UNSENT_PER_PEER_BYTES } from './bounds.ts';
import { PIECE_HEAD_BYTES } from './messages.ts';
import { WaitingQuestions } from './waiting-questions.ts';

/** Memory of a waiting question: a few numbers in a list. */
const WAITING_REQUEST_BYTES = 100;
/** Bytes of blocks, with their heads, that are read and sent together: one lent buffer. */
const ANSWER_BYTES = 256 * 1024;
/** Answers per second under a limit of our own, so that all waiting peers get something often. */
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
  /** Answers a question, together with the blocks that follow it in the torrent. Resolves when the answer is sent. */
  readonly answer: (questions: readonly Question[]) => Promise<void>;
  /** Calls back when it is this peer's turn. */
  readonly takeTurn: (answer: () => Promise<void>) => Promise<void>;
  /** Returns true if a block begins where the previous one ends. */
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

/** Holds back the questions of one peer until it is their turn, and the peer has read earlier answers. */
export class UploadWindow {
  readonly #options: UploadWindowOptions;
  readonly #waiting = new WaitingQuestions();
  /** Number of questions that are being answered, and the bytes of their answers. */
  #answering = 0;
  #answeringBytes = 0;
  /** True from the request for a turn to the end of the answer. */
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

  /** Adds a question. @returns false if the peer has more open questions than any client */
  ask(question: Question): boolean {
    if (this.#waiting.size + this.#answering >= MAX_OPEN_REQUESTS) return false;
    this.#waiting.push(question);
    this.#options.note(WAITING_REQUEST_BYTES);
    this.pump();
    return true;
  }

  /** Withdraws a waiting question. A question that is being answered stays. @returns true if it waited */
  cancel(index: number, offset: number, length: number): boolean {
    return this.#waiting.cancel(index, offset, length);
  }

  /** Drops the waiting questions for blocks. @returns the dropped questions */
  forgetBlocks(): readonly Question[] {
    return this.#waiting.forgetBlocks();
  }

  /** Continues to answer if there is room. */
  pump(): void {
    if (this.#isBusy || this.#pause !== undefined || this.#waiting.size === 0 || !this.#hasRoom) return;
    this.#isBusy = true;
    // Waits for a microtask: requests come many at a time, and those of adjacent blocks are answered together.
    queueMicrotask(() => {
      void this.#options.takeTurn(() => this.#answerNext());
    });
  }

  get #hasRoom(): boolean {
    return this.#options.unsentBytes() < MAX_UNSENT_PER_PEER_BYTES;
  }

  /** Answers the next questions. Never rejects. */
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
    if (bytes > 0) this.pump(); // otherwise there was no room, and `pump` is called later
  }

  /** Takes the questions that are answered together, as far as there is room for their answers. */
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

  /**
   * Returns the limit on bytes that are read at a time. It is lower while many buffers are in use, so that a waiting
   * block does not keep the memory of a sent one.
   */
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
