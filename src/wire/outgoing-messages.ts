import { MessageReader } from './message-reader.ts';
import { KIND, LENGTH_BYTES } from './protocol.ts';

export interface OutgoingMessagesOptions {
  readonly send: (bytes: Uint8Array) => void;
  /** Called with each message of the swarm. @returns true if the peer should get it */
  readonly isForPeer: (message: Buffer) => boolean;
  /** Called with the head of each sent block. The block itself is passed on without a copy. */
  readonly onBlock: (index: number, offset: number, length: number) => void;
}

/** Length, kind, index, offset. */
const BLOCK_HEAD_BYTES = 13;

/** Passes the swarm's messages to a peer one by one, with other messages in between. */
export class OutgoingMessages {
  readonly #options: OutgoingMessagesOptions;
  readonly #reader = new MessageReader();
  #hasHandshake = false;
  /** Payload bytes of the present block that are still to be sent. */
  #blockBytesLeft = 0;
  /** Messages that wait for the end of another. */
  readonly #between: Uint8Array[] = [];

  constructor(options: OutgoingMessagesOptions) {
    this.#options = options;
  }

  /** Takes bytes of the swarm. */
  write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      at = this.#step(bytes, at);
      if (this.#isBetween) for (const message of this.#between.splice(0)) this.#options.send(message);
    }
  }

  /** Sends another message behind the present one. */
  say(message: Uint8Array): void {
    if (this.#isBetween) this.#options.send(message);
    else this.#between.push(message);
  }

  get #isBetween(): boolean {
    return this.#blockBytesLeft === 0 && this.#reader.isAtStart;
  }

  #step(bytes: Buffer, at: number): number {
    const { send, isForPeer, onBlock } = this.#options;
    if (this.#blockBytesLeft > 0) {
      const part = bytes.subarray(at, at + this.#blockBytesLeft);
      this.#blockBytesLeft -= part.length;
      send(part);
      return at + part.length;
    }
    const head = bytes.subarray(at, at + BLOCK_HEAD_BYTES);
    if (this.#hasHandshake && this.#reader.isAtStart && isBlockHead(head)) {
      this.#blockBytesLeft = head.readUInt32BE(0) - (BLOCK_HEAD_BYTES - LENGTH_BYTES);
      onBlock(head.readUInt32BE(5), head.readUInt32BE(9), this.#blockBytesLeft);
      send(head);
      return at + BLOCK_HEAD_BYTES;
    }
    return this.#reader.step(bytes, at, (message) => {
      if (!this.#hasHandshake || isForPeer(message)) send(message);
      this.#hasHandshake = true;
    });
  }
}

function isBlockHead(head: Buffer): boolean {
  return head.length === BLOCK_HEAD_BYTES && head[LENGTH_BYTES] === KIND.PIECE;
}
