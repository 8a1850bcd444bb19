import type { RateLimit } from '../bytes/rate-limit.ts';
import { WaitingQuestions } from './waiting-questions.ts';
import { MAX_OPEN_REQUESTS, MAX_UNSENT_PER_PEER_BYTES } from './bounds.ts';

/** Bytes of a waiting question: a few numbers in a list. */
const WAITING_REQUEST_BYTES = 100;

/** A request of a peer: for a block, or for a piece of metadata. */
export interface Question {
  readonly of: 'block' | 'metadata';
  readonly index: number;
  readonly offset: number;
  /** Bytes of the answer. */
  readonly length: number;
}

export interface UploadWindowOptions {
  /** Answers a question. */
  readonly release: (question: Question) => void;
  /** Returns answered bytes that the peer has not taken. */
  readonly unsentBytes: () => number;
  /** Asks for room for an answer. If there is none, {@link UploadWindow.pump} is called later. */
  readonly take: (bytes: number) => boolean;
  /** Counts the memory of a waiting question. */
  readonly note: (bytes: number) => void;
  /** Limit on the rate of answers. */
  readonly limit?: RateLimit | undefined;
}

/**
 * Holds the questions of one peer back until it has read earlier answers: WebTorrent would read every requested block
 * from the disk at once, and keep it until the peer takes it.
 */
export class UploadWindow {
  readonly #options: UploadWindowOptions;
  readonly #waiting = new WaitingQuestions();
  /** Questions that were passed on and are not answered yet. */
  readonly #released: Question[] = [];
  #releasedBytes = 0;
  /** Set while the limit says to wait. */
  #pause: NodeJS.Timeout | undefined;

  constructor(options: UploadWindowOptions) {
    this.#options = options;
  }

  /** The memory of the questions and of their answers. */
  get heldBytes(): number {
    return this.#releasedBytes + this.#waiting.size * WAITING_REQUEST_BYTES;
  }

  /** Takes a question. @returns false if the peer has more open questions than any client */
  ask(question: Question): boolean {
    if (this.#waiting.size + this.#released.length >= MAX_OPEN_REQUESTS) return false;
    this.#waiting.push(question);
    this.#options.note(WAITING_REQUEST_BYTES);
    this.pump();
    return true;
  }

  /** Withdraws a waiting question. One that was passed on is answered. @returns true if it waited */
  cancel(index: number, offset: number, length: number): boolean {
    return this.#waiting.cancel(index, offset, length);
  }

  /** Records that a block was sent or refused. */
  answered(index: number, offset: number, length: number): void {
    this.#settle(this.#released.findIndex((one) => isBlock(one, index, offset, length)));
  }

  /** Records that a piece of metadata was sent or refused. */
  metadataAnswered(): void {
    this.#settle(this.#released.findIndex((one) => one.of === 'metadata'));
  }

  /** Drops the questions for blocks: without the fast extension, a choke answers all of them. */
  forgetBlocks(): void {
    this.#waiting.forgetBlocks();
    const kept = this.#released.filter((one) => one.of !== 'block');
    this.#released.splice(0, this.#released.length, ...kept);
    this.#releasedBytes = this.#released.reduce((sum, { length }) => sum + length, 0);
  }

  /** Answers as many questions as there is room for. */
  pump(): void {
    while (this.#pause === undefined) {
      const next = this.#waiting.first();
      if (next === undefined || this.#releasedBytes + this.#options.unsentBytes() >= MAX_UNSENT_PER_PEER_BYTES) return;
      if (!this.#options.take(next.length)) return;
      this.#waiting.dropFirst();
      this.#released.push(next);
      this.#releasedBytes += next.length;
      const waitMs = this.#options.limit?.take(next.length) ?? 0;
      if (waitMs > 0) this.#wait(waitMs);
      this.#options.release(next);
    }
  }

  #wait(waitMs: number): void {
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.pump();
    }, waitMs).unref();
  }

  #settle(at: number): void {
    const [question] = at === -1 ? [] : this.#released.splice(at, 1);
    this.#releasedBytes -= question?.length ?? 0;
  }
}

function isBlock(one: Question, index: number, offset: number, length: number): boolean {
  return one.of === 'block' && one.index === index && one.offset === offset && one.length === length;
}
