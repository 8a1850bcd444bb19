import type { RateLimit } from '../bytes/rate-limit.ts';
import type { Ends } from './ends.ts';
import { message } from './messages.ts';
import { KIND } from './protocol.ts';
import { UploadWindow } from './upload-window.ts';

export interface ServingSideOptions {
  /** False: the peer stays choked, whatever the swarm says. */
  readonly gives: boolean;
  /** True for pieces that are here. */
  readonly holds: (index: number) => boolean;
  readonly unsentBytes: () => number;
  /** Asks for room for an answer; if there is none, {@link ServingSide.pump} is called later. */
  readonly take: (bytes: number) => boolean;
  /** Counts the memory of a question that waits. */
  readonly note: (bytes: number) => void;
  /** Questions are answered no faster. */
  readonly limit: RateLimit | undefined;
  /** Called with the payload bytes of each block that is sent. */
  readonly onUpload: (bytes: number) => void;
  /** Has a piece of the metadata sent (BEP 9). */
  readonly askMetadata: (piece: number) => void;
}

/** Longest piece of metadata (BEP 9), with the head of its message. */
const METADATA_ANSWER_BYTES = 16_384 + 64;

/**
 * What a peer asks of us. The swarm hears of a request only if the peer may have the block, it is here, and there is
 * room for the answer.
 */
export class ServingSide {
  readonly #ends: Ends;
  readonly #options: ServingSideOptions;
  readonly #window: UploadWindow;
  #isChoked = true;
  #wasInterested = false;

  constructor(ends: Ends, options: ServingSideOptions) {
    this.#ends = ends;
    this.#options = options;
    this.#window = new UploadWindow({
      release: ({ of, index, offset, length }) => {
        if (of === 'block') ends.toSwarm(message(KIND.REQUEST, index, offset, length));
        else options.askMetadata(index);
      },
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

  /** The peer is interested. The first time the swarm will let it ask, and an eager peer does not wait for that. */
  onInterested(): void {
    if (!this.#wasInterested) this.#isChoked = !this.#options.gives;
    this.#wasInterested = true;
  }

  onRequest(index: number, offset: number, length: number): void {
    if (this.#isChoked || !this.#options.holds(index)) this.#reject(index, offset, length);
    else if (!this.#window.ask({ of: 'block', index, offset, length })) this.#ends.refuse();
  }

  onCancel(index: number, offset: number, length: number): void {
    if (this.#window.cancel(index, offset, length)) this.#reject(index, offset, length);
  }

  onMetadataRequest(piece: number): void {
    const question = { of: 'metadata', index: piece, offset: 0, length: METADATA_ANSWER_BYTES } as const;
    if (!this.#window.ask(question)) this.#ends.refuse();
  }

  /** The swarm chokes the peer. @returns whether the peer is to hear it */
  onChoke(): boolean {
    const wasChoked = this.#isChoked;
    this.#isChoked = true;
    // With the fast extension each request is turned down by name (BEP 6).
    if (!this.#ends.hasFast) this.#window.forgetBlocks();
    return !wasChoked;
  }

  /** The swarm lets the peer ask. @returns whether the peer is to hear it */
  onUnchoke(): boolean {
    this.#isChoked = !this.#options.gives;
    return this.#options.gives;
  }

  onSent(index: number, offset: number, length: number): void {
    this.#window.answered(index, offset, length);
    this.#options.onUpload(length);
  }

  onRejected(index: number, offset: number, length: number): void {
    this.#window.answered(index, offset, length);
  }

  onMetadataSent(): void {
    this.#window.metadataAnswered();
  }

  #reject(index: number, offset: number, length: number): void {
    if (this.#ends.hasFast) this.#ends.toPeer(message(KIND.REJECT, index, offset, length));
  }
}
