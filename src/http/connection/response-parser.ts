/** Parses the answers to GETs on one HTTP/1.1 connection (RFC 9112). Has no clock and does no I/O. */

import { notHttp } from '../transfer/failure.ts';
import { framingOf, parseHead, type Head } from './response-head.ts';

/** Limit on the head of an answer, and on the trailers of a chunked body. As in curl. */
const MAX_HEAD_BYTES = 300 * 1024;
/** Limit on the line before a chunk: its size, and extensions that nobody uses. As in a head: curl has none. */
const MAX_CHUNK_LINE_BYTES = MAX_HEAD_BYTES;

/** Takes the parts of an answer: interim heads (1xx), the head, chunks of the body, and the end. */
export interface Parts {
  head(head: Head): void;
  body(chunk: Buffer): void;
  end(): void;
}

/** Limit on one chunk. Exact as a number. */
const MAX_CHUNK_BYTES = 2 ** 48 - 1;
/** The longest end of a head, which may come in parts. */
const HEAD_END_BYTES = 3;
const LINE_END = '\r\n';

type State = 'head' | 'fixed' | 'chunk line' | 'chunk' | 'chunk end' | 'trailers' | 'until close' | 'ended';

/**
 * Parses one answer as curl does. An answer that a proxy may read in another way (lines without a carriage return, both
 * a length and chunks) leaves no connection for another request. Refuses different lengths, and other transfer
 * encodings.
 */
export class ResponseParser {
  readonly #parts: Parts;
  #state: State = 'head';
  /** Begins with the {@link #begunBytes} of a head or line that is not complete. */
  #begun = Buffer.alloc(0);
  #begunBytes = 0;
  #isPlain = true;
  /** Bytes of the body or the chunk that are missing. */
  #missingBytes = 0;
  #trailerBytes = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get hasEnded(): boolean {
    return this.#state === 'ended';
  }

  /** False if a line of a chunked body was not plain: a proxy may see the end of the answer elsewhere. */
  get isPlain(): boolean {
    return this.#isPlain;
  }

  /**
   * Takes bytes of the connection.
   *
   * @returns the number of bytes that belong to the answer
   * @throws AttemptFailure if they are not HTTP
   */
  push(bytes: Buffer): number {
    let at = 0;
    while (at < bytes.length && this.#state !== 'ended') at = this.#step(bytes, at);
    return at;
  }

  /** Takes the end of the connection. @returns false if the answer is not complete */
  close(): boolean {
    if (this.#state === 'until close') this.#end();
    return this.#state === 'ended';
  }

  /** Parses one part that begins at `at`. @returns where the next begins */
  #step(bytes: Buffer, at: number): number {
    switch (this.#state) {
      case 'head':
        return this.#text(bytes, at, { findEnd: endOfHead, maxBytes: MAX_HEAD_BYTES }, (text) => this.#onHead(text));
      case 'chunk line':
        return this.#line(bytes, at, MAX_CHUNK_LINE_BYTES, (text) => this.#onChunk(text));
      case 'chunk end':
        return this.#line(bytes, at, LINE_END.length, () => {
          this.#state = 'chunk line';
        });
      case 'trailers':
        return this.#line(bytes, at, MAX_HEAD_BYTES, (text) => this.#onTrailer(text));
      default:
        return this.#onBody(bytes, at);
    }
  }

  /** Takes a line, without its end. */
  #line(bytes: Buffer, at: number, maxBytes: number, take: (text: string) => void): number {
    return this.#text(bytes, at, { findEnd: endOfLine, maxBytes }, (text) => {
      const isPlain = text.endsWith(LINE_END);
      if (!isPlain) this.#isPlain = false;
      take(text.slice(0, isPlain ? -2 : -1));
    });
  }

  /** Collects text up to its end, and takes it. */
  #text(
    bytes: Buffer,
    at: number,
    { findEnd, maxBytes }: { readonly findEnd: (known: Buffer, from: number) => number; readonly maxBytes: number },
    take: (text: string) => void,
  ): number {
    const before = this.#begunBytes;
    const known = before === 0 ? bytes.subarray(at) : this.#hold(bytes.subarray(at));
    const end = findEnd(known, Math.max(0, before - HEAD_END_BYTES));
    if ((end === -1 ? known.length : end) > maxBytes)
      throw notHttp(this.#state === 'head' ? `its headers have over ${maxBytes} bytes` : 'a chunk has no end');
    if (end === -1) {
      if (before === 0) this.#hold(known);
      return bytes.length;
    }
    this.#begunBytes = 0;
    take(known.toString('latin1', 0, end));
    return at + end - before;
  }

  /** Adds to the text that is not complete, and returns it. Its buffer doubles: bytes may come one by one. */
  #hold(bytes: Buffer): Buffer {
    const neededBytes = this.#begunBytes + bytes.length;
    if (neededBytes > this.#begun.length) {
      const longer = Buffer.allocUnsafe(Math.max(neededBytes, 2 * this.#begun.length));
      this.#begun.copy(longer, 0, 0, this.#begunBytes);
      this.#begun = longer;
    }
    bytes.copy(this.#begun, this.#begunBytes);
    this.#begunBytes = neededBytes;
    return this.#begun.subarray(0, neededBytes);
  }

  #onHead(text: string): void {
    const head = parseHead(text);
    const { statusCode, headers } = head;
    if (statusCode === 101) throw notHttp('it changes the protocol');
    if (statusCode < 200) {
      this.#parts.head(head);
      return;
    }
    const framing = framingOf(headers);
    if (statusCode === 204 || statusCode === 304) this.#state = 'fixed';
    else if (framing.kind === 'chunks') this.#state = 'chunk line';
    else if (framing.kind === 'close') this.#state = 'until close';
    else {
      this.#state = 'fixed';
      this.#missingBytes = framing.lengthBytes;
    }
    this.#parts.head(this.#state === 'until close' ? { ...head, isKept: false } : head);
    if (this.#state === 'fixed' && this.#missingBytes === 0) this.#end();
  }

  #onBody(bytes: Buffer, at: number): number {
    const to = this.#state === 'until close' ? bytes.length : Math.min(bytes.length, at + this.#missingBytes);
    this.#missingBytes -= to - at;
    this.#parts.body(bytes.subarray(at, to));
    if (this.#state === 'until close' || this.#missingBytes > 0) return to;
    if (this.#state === 'chunk') this.#state = 'chunk end';
    else this.#end();
    return to;
  }

  #onChunk(text: string): void {
    const [, digits = ''] = /^([\da-f]{1,16})[ \t]*(?:;|$)/i.exec(text) ?? [];
    this.#missingBytes = Number.parseInt(digits, 16);
    if (!(this.#missingBytes <= MAX_CHUNK_BYTES)) throw notHttp('a chunk has no size');
    this.#state = this.#missingBytes === 0 ? 'trailers' : 'chunk';
  }

  #onTrailer(text: string): void {
    this.#trailerBytes += text.length + LINE_END.length;
    if (this.#trailerBytes > MAX_HEAD_BYTES) throw notHttp(`its trailers have over ${MAX_HEAD_BYTES} bytes`);
    if (text === '') this.#end();
  }

  #end(): void {
    this.#state = 'ended';
    this.#parts.end();
  }
}

/** Returns where the empty line after a head ends; -1 if it has not come. */
function endOfHead(known: Buffer, from: number): number {
  const usual = known.indexOf('\n\r\n', from, 'latin1');
  const bare = known.subarray(0, usual === -1 ? undefined : usual + 1).indexOf('\n\n', from, 'latin1');
  if (bare !== -1) return bare + 2;
  return usual === -1 ? -1 : usual + 3;
}

/** Returns where a line ends; -1 if its end has not come. */
function endOfLine(known: Buffer, from: number): number {
  return known.indexOf('\n', from, 'latin1') + 1 || -1;
}
