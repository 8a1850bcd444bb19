/** Numbers and strings in the wire format of Nix (Nix: src/libutil/serialise.cc). */
import type { Readable } from 'node:stream';
import { NarswarmError } from '../../errors.ts';

const WORD_BYTES = 8;
/**
 * Limit on strings. No path, hash or signature is nearly as long; a longer string means that the stream is out of step.
 */
const MAX_STRING_BYTES = 1 << 20;
const MAX_COUNT = 1 << 24;

/** Encodes a whole number as 64 bits, lowest byte first. */
export function encodeNumber(value: number): Buffer {
  const bytes = Buffer.alloc(WORD_BYTES);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Encodes a string: its length, its bytes, and zeros up to a multiple of 8. */
export function encodeString(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const bytes = Buffer.alloc(WORD_BYTES + padded(length));
  bytes.writeBigUInt64LE(BigInt(length));
  bytes.write(text, WORD_BYTES);
  return bytes;
}

/** Encodes the count, then each string. */
export function encodeStrings(texts: readonly string[]): Buffer {
  return Buffer.concat([encodeNumber(texts.length), ...texts.map(encodeString)]);
}

/** Reads the same format. Each method throws `NIX_FAILED` if the stream ends or makes no sense. */
export class WireReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: Readable) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async number(): Promise<number> {
    const value = (await this.#take(WORD_BYTES)).readBigUInt64LE();
    if (value > Number.MAX_SAFE_INTEGER) throw new NarswarmError('NIX_FAILED', `nix sent the number ${value}`);
    return Number(value);
  }

  async string(): Promise<string> {
    const length = await this.#upTo(MAX_STRING_BYTES);
    return (await this.#take(padded(length))).toString('utf8', 0, length);
  }

  async strings(): Promise<string[]> {
    const texts: string[] = [];
    for (let left = await this.#upTo(MAX_COUNT); left > 0; left--) texts.push(await this.string());
    return texts;
  }

  /** Yields exactly `count` bytes, as they arrive. Take all of them before the next read. */
  async *bytes(count: number): AsyncGenerator<Buffer> {
    for (let left = count; left > 0;) {
      if (this.#rest.length === 0) this.#rest = await this.#next();
      const bytes = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(bytes.length);
      left -= bytes.length;
      yield bytes;
    }
  }

  async #upTo(limit: number): Promise<number> {
    const value = await this.number();
    if (value > limit) throw new NarswarmError('NIX_FAILED', `nix sent a length of ${value}, above ${limit}`);
    return value;
  }

  async #take(count: number): Promise<Buffer> {
    while (this.#rest.length < count) {
      const value = await this.#next();
      this.#rest = this.#rest.length === 0 ? value : Buffer.concat([this.#rest, value]);
    }
    const bytes = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(count);
    return bytes;
  }

  async #next(): Promise<Buffer> {
    const { done, value } = await this.#chunks.next();
    if (done === true) throw new NarswarmError('NIX_FAILED', 'nix ended in the middle of an answer');
    return value;
  }
}

function padded(length: number): number {
  return Math.ceil(length / WORD_BYTES) * WORD_BYTES;
}
