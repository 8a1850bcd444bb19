import { MAX_BENCODED_BYTES, MAX_IGNORED_BYTES, MAX_MESSAGE_BYTES } from '../wire/bounds.ts';
import { HANDSHAKE_BYTES, KIND as WIRE_KIND, LENGTH_BYTES } from '../wire/protocol.ts';
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
  readonly #handlers: FrameHandlers;
  #part: 'handshake' | 'length' | 'head' | 'body' = 'handshake';
  #buffer = Buffer.allocUnsafe(HANDSHAKE_BYTES);
  #gathered = 0;
  #wanted = HANDSHAKE_BYTES;
  /** Length of the current message. */
  #messageBytes = 0;
  /** Bytes of the message that are ignored, or passed to the request of DATA. */
  #passBytes = 0;
  #dataId: number | undefined;
  #ignoredBytes = 0;
  /** Bytes that arrived and wait until there is room for their messages. */
  #held: Uint8Array | undefined;

  constructor(handlers: FrameHandlers) {
    this.#handlers = handlers;
  }

  /** True while bytes wait. Pass no more bytes before {@link goOn} has taken them. */
  get isHolding(): boolean {
    return this.#held !== undefined;
  }

  /** Bytes in memory. */
  get heldBytes(): number {
    return (this.#part === 'body' ? this.#wanted : 0) + (this.#held?.length ?? 0);
  }

  /** Takes waiting bytes while there is room. If it returns false, the connection must end. */
  goOn(): boolean {
    const held = this.#held;
    this.#held = undefined;
    return held === undefined || this.accept(held);
  }

  /** Takes the next bytes. Keeps those for which there is no room. If it returns false, the connection must end. */
  accept(chunk: Uint8Array): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#isBetween && this.#handlers.isFull()) {
        this.#held = Buffer.from(chunk.subarray(at)); // the chunk is lent
        return true;
      }
      if (this.#passBytes > 0) {
        const bytes = chunk.subarray(at, at + this.#passBytes);
        this.#passBytes -= bytes.length;
        at += bytes.length;
        if (this.#dataId !== undefined && !this.#handlers.data(this.#dataId, bytes)) return false;
        continue;
      }
      const taken = Math.min(this.#wanted - this.#gathered, chunk.length - at);
      this.#buffer.set(chunk.subarray(at, at + taken), this.#gathered);
      this.#gathered += taken;
      at += taken;
      if (this.#gathered === this.#wanted && !this.#onGathered()) return false;
    }
    return true;
  }

  /** True between two messages. */
  get #isBetween(): boolean {
    return this.#part === 'length' && this.#gathered === 0 && this.#passBytes === 0;
  }

  #gather(part: 'length' | 'head' | 'body', bytes: number, gathered = 0): void {
    this.#part = part;
    this.#wanted = bytes;
    this.#gathered = gathered;
  }

  #onGathered(): boolean {
    const bytes = this.#buffer.subarray(0, this.#wanted);
    switch (this.#part) {
      case 'handshake':
        this.#gather('length', LENGTH_BYTES);
        return this.#handlers.handshake(bytes);
      case 'length':
        this.#messageBytes = bytes.readUInt32BE(0);
        if (this.#messageBytes === 0) this.#gather('length', LENGTH_BYTES);
        else this.#gather('head', Math.min(HEAD_BYTES, this.#messageBytes));
        return this.#messageBytes <= MAX_MESSAGE_BYTES;
      case 'head':
        return this.#onHead(bytes);
      default:
        return this.#onMessage(bytes);
    }
  }

  #onHead(head: Buffer): boolean {
    const restBytes = this.#messageBytes - head.length;
    const isExtended = head[0] === WIRE_KIND.EXTENDED && head.length > 1;
    if (!isExtended || (head[1] !== 0 && head[1] !== OUR_EXTENSION_ID)) {
      this.#dataId = undefined;
      this.#passBytes = restBytes;
      this.#gather('length', LENGTH_BYTES);
      return this.#mayIgnore(this.#messageBytes);
    }
    if (head[1] === OUR_EXTENSION_ID && head[2] === KIND.DATA) {
      if (restBytes === 0) return false; // DATA without bytes
      this.#dataId = head.readUInt32BE(3);
      this.#passBytes = restBytes;
      this.#gather('length', LENGTH_BYTES);
      return true;
    }
    if (head[1] === 0 && this.#messageBytes > MAX_BENCODED_BYTES) return false;
    if (restBytes === 0) return this.#onMessage(head);
    const whole = Buffer.allocUnsafe(this.#messageBytes);
    whole.set(head);
    this.#buffer = whole;
    this.#gather('body', this.#messageBytes, head.length);
    return true;
  }

  #onMessage(frame: Buffer): boolean {
    this.#buffer = Buffer.allocUnsafe(HEAD_BYTES); // parsed messages may refer to the old buffer
    this.#gather('length', LENGTH_BYTES);
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
