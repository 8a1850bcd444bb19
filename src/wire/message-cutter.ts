import { MAX_MESSAGE_BYTES } from './bounds.ts';
import { HANDSHAKE_BYTES, LENGTH_BYTES } from './protocol.ts';

/** Handlers for the parts of a peer's stream, in their order. Each that returns false ends the connection. */
export interface CutHandlers {
  /** Called with the 68 bytes of the handshake. */
  readonly handshake: (bytes: Buffer) => boolean;
  /**
   * Called with the first bytes of a message, without its length. The result is what happens to it: `gather` it whole,
   * `pass` the rest on without a copy, or `refuse` it.
   */
  readonly head: (head: Buffer, messageBytes: number) => 'gather' | 'pass' | 'refuse';
  /** Called with a gathered message, without its length. The bytes are not used again. */
  readonly whole: (message: Buffer) => boolean;
  /** Called with bytes of a message that is passed on. They are lent until this returns. */
  readonly passed: (bytes: Uint8Array) => boolean;
}

/** Cuts a stranger's stream into its handshake and messages. Holds at most one message in memory. */
export class MessageCutter {
  readonly #on: CutHandlers;
  readonly #headBytes: number;
  #part: 'handshake' | 'length' | 'head' | 'whole' = 'handshake';
  #buffer = Buffer.allocUnsafe(HANDSHAKE_BYTES);
  #gathered = 0;
  #wanted = HANDSHAKE_BYTES;
  /** Length of the current message. */
  #messageBytes = 0;
  /** Bytes of the message that are still to be passed on. */
  #passBytes = 0;

  /** @param headBytes the most bytes of a message that its head needs */
  constructor(headBytes: number, on: CutHandlers) {
    this.#headBytes = headBytes;
    this.#on = on;
  }

  /** True between two messages. */
  get isBetween(): boolean {
    return this.#part === 'length' && this.#gathered === 0 && this.#passBytes === 0;
  }

  /** Bytes in memory. */
  get heldBytes(): number {
    return this.#part === 'whole' ? this.#wanted : 0;
  }

  /**
   * Takes bytes of a chunk from `at`, to the end of one part at most.
   *
   * @returns where to continue; undefined if the connection must end
   */
  step(chunk: Uint8Array, at: number): number | undefined {
    if (this.#passBytes > 0) {
      const bytes = chunk.subarray(at, at + this.#passBytes);
      this.#passBytes -= bytes.length;
      return this.#on.passed(bytes) ? at + bytes.length : undefined;
    }
    const taken = Math.min(this.#wanted - this.#gathered, chunk.length - at);
    this.#buffer.set(chunk.subarray(at, at + taken), this.#gathered);
    this.#gathered += taken;
    return this.#gathered < this.#wanted || this.#onGathered() ? at + taken : undefined;
  }

  #gather(part: 'length' | 'head' | 'whole', bytes: number, gathered = 0): void {
    this.#part = part;
    this.#wanted = bytes;
    this.#gathered = gathered;
  }

  #onGathered(): boolean {
    const bytes = this.#buffer.subarray(0, this.#wanted);
    switch (this.#part) {
      case 'handshake':
        this.#gather('length', LENGTH_BYTES);
        return this.#on.handshake(bytes);
      case 'length':
        this.#messageBytes = bytes.readUInt32BE(0);
        if (this.#messageBytes === 0) this.#gather('length', LENGTH_BYTES);
        else this.#gather('head', Math.min(this.#headBytes, this.#messageBytes));
        return this.#messageBytes <= MAX_MESSAGE_BYTES;
      case 'head':
        return this.#onHead(bytes);
      default:
        return this.#onWhole(bytes);
    }
  }

  #onHead(head: Buffer): boolean {
    const next = this.#on.head(head, this.#messageBytes);
    if (next === 'refuse') return false;
    if (next === 'pass') {
      this.#passBytes = this.#messageBytes - head.length;
      this.#gather('length', LENGTH_BYTES);
      return true;
    }
    if (head.length === this.#messageBytes) return this.#onWhole(head);
    const whole = Buffer.allocUnsafe(this.#messageBytes);
    whole.set(head);
    this.#buffer = whole;
    this.#gather('whole', this.#messageBytes, head.length);
    return true;
  }

  #onWhole(message: Buffer): boolean {
    this.#buffer = Buffer.allocUnsafe(Math.max(this.#headBytes, LENGTH_BYTES));
    this.#gather('length', LENGTH_BYTES);
    return this.#on.whole(message);
  }
}
