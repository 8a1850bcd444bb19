import type { RateLimit } from '../bytes/rate-limit.ts';
import { MAX_OPEN_REQUESTS, MAX_UNSENT_PER_PEER_BYTES } from './bounds.ts';

/** Bytes that a waiting question takes: a few numbers in a list. */
const WAITING_REQUEST_BYTES = 100;

/** Something that a peer asks for: a block, or a piece of metadata. */
export interface Question {
  readonly of: 'block' | 'metadata';
  readonly index: number;
  readonly offset: number;
  /** Bytes of the answer. */
  readonly length: number;
}

export interface UploadWindowOptions {
  /** Has a question answered. */
  readonly release: (question: Question) => void;
  /** Bytes that were answered and that the peer has not taken. */
  readonly unsentBytes: () => number;
  /** Asks for room for an answer; if there is none, {@link UploadWindow.pump} is called later. */
  readonly take: (bytes: number) => boolean;
  /** Counts the memory of a question that waits. */
  readonly note: (bytes: number) => void;
  /** Questions are answered no faster. */
  readonly limit?: RateLimit | undefined;
}

/**
 * Holds the questions of one peer back until it has read what it asked for before: WebTorrent reads every block that is
 * asked for from the disk at once, and keeps it until the peer takes it.
 */
export class UploadWindow {
  readonly #options: UploadWindowOptions;
  readonly #waiting: Question[] = [];
  /** Passed on, and not answered yet. */
  readonly #released: Question[] = [];
  #releasedBytes = 0;
  /** Set while the limit says to wait. */
  #pause: NodeJS.Timeout | undefined;

  constructor(options: UploadWindowOptions) {
    this.#options = options;
  }

  /** Memory that the answers will take, and the questions do. */
  get heldBytes(): number {
    return this.#releasedBytes + this.#waiting.length * WAITING_REQUEST_BYTES;
  }

  /** Takes a question. @returns false if the peer has more of them open than any client */
  ask(question: Question): boolean {
    if (this.#waiting.length + this.#released.length >= MAX_OPEN_REQUESTS) return false;
    this.#waiting.push(question);
    this.#options.note(WAITING_REQUEST_BYTES);
    this.pump();
    return true;
  }

  /** Takes back a question that waits. One that was passed on is answered. @returns whether it waited */
  cancel(index: number, offset: number, length: number): boolean {
    const at = this.#waiting.findIndex((one) => isBlock(one, index, offset, length));
    if (at !== -1) this.#waiting.splice(at, 1);
    return at !== -1;
  }

  /** Records that a block was sent, or refused. */
  answered(index: number, offset: number, length: number): void {
    this.#settle(this.#released.findIndex((one) => isBlock(one, index, offset, length)));
  }

  /** Records that a piece of metadata was sent, or refused. */
  metadataAnswered(): void {
    this.#settle(this.#released.findIndex((one) => one.of === 'metadata'));
  }

  /** Forgets the blocks that were asked for: a choke without the fast extension is the answer to all of them. */
  forgetBlocks(): void {
    for (const list of [this.#waiting, this.#released]) {
      const kept = list.filter((one) => one.of !== 'block');
      list.splice(0, list.length, ...kept);
    }
    this.#releasedBytes = this.#released.reduce((sum, { length }) => sum + length, 0);
  }

  /** Has as many questions answered as there is room for. */
  pump(): void {
    while (this.#pause === undefined) {
      const [next] = this.#waiting;
      if (next === undefined || this.#releasedBytes + this.#options.unsentBytes() >= MAX_UNSENT_PER_PEER_BYTES) return;
      if (!this.#options.take(next.length)) return;
      this.#waiting.shift();
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
