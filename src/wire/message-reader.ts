import { HANDSHAKE_BYTES, LENGTH_BYTES } from './protocol.ts';

/** First room for a message that arrives in parts. It grows with the received bytes, not with the claimed length. */
const FIRST_ROOM_BYTES = 4096;

/**
 * Splits a stream of bytes into its handshake and messages. A length precedes each message; check the lengths first.
 * Returns a message inside one chunk without a copy.
 */
export class MessageReader {
  #isHandshake = true;
  #torn: Buffer = Buffer.alloc(0);
  #gathered = 0;

  /** True if nothing of the next message has arrived. */
  get isAtStart(): boolean {
    return this.#gathered === 0;
  }

  /** Calls back with each message that this chunk completes. */
  read(chunk: Buffer, onMessage: (message: Buffer) => void): void {
    for (let at = 0; at < chunk.length;) at = this.step(chunk, at, onMessage);
  }

  /** Reads on from `at`, to the end of one message at most. @returns where to continue */
  step(chunk: Buffer, at: number, onMessage: (message: Buffer) => void): number {
    const wholeBytes = this.#gathered === 0 ? this.#lengthOf(chunk.subarray(at, at + LENGTH_BYTES)) : undefined;
    if (wholeBytes !== undefined && at + wholeBytes <= chunk.length) {
      this.#isHandshake = false;
      onMessage(chunk.subarray(at, at + wholeBytes));
      return at + wholeBytes;
    }
    const taken = this.#gather(chunk, at);
    if (this.#gathered !== this.#lengthOf(this.#torn.subarray(0, this.#gathered))) return at + taken;
    const message = this.#torn.subarray(0, this.#gathered);
    this.#torn = Buffer.alloc(0);
    this.#gathered = 0;
    this.#isHandshake = false;
    onMessage(message);
    return at + taken;
  }

  #lengthOf(start: Buffer): number | undefined {
    if (this.#isHandshake) return HANDSHAKE_BYTES;
    return start.length < LENGTH_BYTES ? undefined : LENGTH_BYTES + start.readUInt32BE(0);
  }

  #gather(chunk: Buffer, at: number): number {
    const wanted = this.#lengthOf(this.#torn.subarray(0, this.#gathered)) ?? LENGTH_BYTES;
    const taken = Math.min(wanted - this.#gathered, chunk.length - at);
    const needed = this.#gathered + taken;
    if (this.#torn.length < needed) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(wanted, Math.max(FIRST_ROOM_BYTES, 2 * needed))));
      this.#torn.copy(grown, 0, 0, this.#gathered);
      this.#torn = grown;
    }
    chunk.copy(this.#torn, this.#gathered, at, at + taken);
    this.#gathered += taken;
    return taken;
  }
}
