import { MAX_BENCODED_BYTES, MAX_IGNORED_BYTES } from '../../wire/bounds.ts';
import { MessageCutter } from '../../wire/message-cutter.ts';
import { KIND as WIRE_KIND } from '../../wire/protocol.ts';
import { OUR_EXTENSION_ID } from './handshake.ts';
import { BYTES, KIND, type Message } from './messages.ts';
import { parseBody } from './parse-message.ts';

/** Handlers for a peer's messages, called in order. Each returns false if the peer must not send this. */
export interface FrameHandlers {
  /** Called with the 68 bytes of its handshake. */
  readonly handshake: (bytes: Buffer) => boolean;
  /** Called with the dictionary of an extended handshake. */
  readonly extended: (payload: Buffer) => boolean;
  /** Called with a message of the exchange other than DATA. */
  readonly message: (message: Exclude<Message, { kind: 'data' }>) => boolean;
  /** Called with bytes of an answer as they arrive. They are lent until this returns. */
  readonly data: (id: number, bytes: Uint8Array) => boolean;
  /** Returns true while no further message should be passed on. */
  readonly isFull: () => boolean;
}

/** Bytes of a message that are enough to tell DATA from all others. */
const HEAD_BYTES = 2 + BYTES.DATA_HEAD;

/**
 * Cuts the bytes of a peer into messages and checks each. Does not copy the bytes of DATA, and holds at most one
 * message in memory. Ignores messages of BEP 3 and of unknown kinds, which later versions may have, within a limit.
 */
export class FrameReader {
  /** Number of bytes that were handled, and of those among them that are in answers. */
  takenBytes = 0;
  payloadBytes = 0;
  readonly #handlers: FrameHandlers;
  readonly #cutter: MessageCutter;
  #dataId: number | undefined;
  #ignoredBytes = 0;
  /** Bytes that arrived and wait until there is room for their messages. */
  #held: Uint8Array | undefined;

  constructor(handlers: FrameHandlers) {
    this.#handlers = handlers;
    this.#cutter = new MessageCutter(HEAD_BYTES, {
      handshake: (bytes) => handlers.handshake(bytes),
      head: (head, messageBytes) => this.#onHead(head, messageBytes),
      whole: (frame) => this.#onMessage(frame),
      passed: (bytes) => {
        if (this.#dataId === undefined) return true;
        this.payloadBytes += bytes.length;
        return handlers.data(this.#dataId, bytes);
      },
    });
  }

  /** True while bytes wait. */
  get isHolding(): boolean {
    return this.#held !== undefined;
  }

  /** Bytes in memory. */
  get heldBytes(): number {
    return this.#cutter.heldBytes + (this.#held?.length ?? 0);
  }

  /** Takes waiting bytes while there is room. If it returns false, the connection must end. */
  goOn(): boolean {
    const held = this.#held;
    this.#held = undefined;
    return held === undefined || this.#cut(held);
  }

  /** Takes the next bytes. Keeps those for which there is no room. If it returns false, the connection must end. */
  accept(chunk: Uint8Array): boolean {
    if (this.#held === undefined) return this.#cut(chunk);
    this.#held = Buffer.concat([this.#held, chunk]);
    return true;
  }

  #cut(chunk: Uint8Array): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#cutter.isBetween && this.#handlers.isFull()) {
        this.#held = Buffer.from(chunk.subarray(at)); // the chunk is lent
        return true;
      }
      const next = this.#cutter.step(chunk, at);
      if (next === undefined) return false;
      this.takenBytes += next - at;
      at = next;
    }
    return true;
  }

  #onHead(head: Buffer, messageBytes: number): 'gather' | 'pass' | 'refuse' {
    const isExtended = head[0] === WIRE_KIND.EXTENDED && head.length > 1;
    if (!isExtended || (head[1] !== 0 && head[1] !== OUR_EXTENSION_ID)) {
      this.#dataId = undefined;
      return this.#mayIgnore(messageBytes) ? 'pass' : 'refuse';
    }
    if (head[1] === OUR_EXTENSION_ID && head[2] === KIND.DATA) {
      if (messageBytes === head.length) return 'refuse'; // DATA without bytes
      this.#dataId = head.readUInt32BE(3);
      return 'pass';
    }
    return head[1] === 0 && messageBytes > MAX_BENCODED_BYTES ? 'refuse' : 'gather';
  }

  #onMessage(frame: Buffer): boolean {
    const body = frame.subarray(2);
    if (frame[1] === 0) return this.#handlers.extended(body);
    const message = parseBody(body);
    if (message === 'unknown') return this.#mayIgnore(frame.length);
    return message !== undefined && message.kind !== 'data' && this.#handlers.message(message);
  }

  #mayIgnore(bytes: number): boolean {
    this.#ignoredBytes += bytes;
    return this.#ignoredBytes <= MAX_IGNORED_BYTES;
  }
}
