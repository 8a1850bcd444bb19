/** Parses the answers to GETs on one HTTP/1.1 connection (RFC 9112). Has no clock and does no I/O. */

import { notHttp } from './failure.ts';
import type { ReceivedHeaders } from './sender.ts';

/** Limit on the head of an answer, and on the trailers of a chunked body. */
const MAX_HEAD_BYTES = 16 * 1024;
/** Limit on the line before a chunk: its size, and extensions that nobody uses. */
const MAX_CHUNK_LINE_BYTES = 1024;

const HEAD_END = '\r\n\r\n';
const LINE_END = '\r\n';

/** The head of an answer. */
export interface Head {
  readonly statusCode: number;
  /** By name in lower case. A header that occurs several times has an array. */
  readonly headers: ReceivedHeaders;
  /** False if the server closes the connection after this answer. */
  readonly isKept: boolean;
}

/** Takes the parts of an answer: interim heads (1xx), the head, chunks of the body, and the end. */
export interface Parts {
  head(head: Head): void;
  body(chunk: Buffer): void;
  end(): void;
}

type State = 'head' | 'fixed' | 'chunk line' | 'chunk' | 'chunk end' | 'trailers' | 'until close' | 'ended';

/**
 * Parses one answer. Refuses what servers and proxies may read in different ways: folded headers, both a length and
 * chunks, several lengths, other transfer encodings.
 */
export class ResponseParser {
  readonly #parts: Parts;
  #state: State = 'head';
  /** The beginning of a head or line that is not complete. */
  #begun: Buffer | undefined;
  /** Bytes of the body or the chunk that are missing. */
  #missingBytes = 0;
  #trailerBytes = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get hasEnded(): boolean {
    return this.#state === 'ended';
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
        return this.#line(bytes, at, { end: HEAD_END, maxBytes: MAX_HEAD_BYTES }, (text) => this.#onHead(text));
      case 'chunk line':
        return this.#line(bytes, at, { end: LINE_END, maxBytes: MAX_CHUNK_LINE_BYTES }, (text) => this.#onChunk(text));
      case 'chunk end':
        return this.#line(bytes, at, { end: LINE_END, maxBytes: LINE_END.length }, () => {
          this.#state = 'chunk line';
        });
      case 'trailers':
        return this.#line(bytes, at, { end: LINE_END, maxBytes: MAX_HEAD_BYTES }, (text) => this.#onTrailer(text));
      default:
        return this.#onBody(bytes, at);
    }
  }

  /** Collects text up to its end, and takes it. */
  #line(
    bytes: Buffer,
    at: number,
    { end, maxBytes }: { readonly end: string; readonly maxBytes: number },
    take: (text: string) => void,
  ): number {
    const before = this.#begun?.length ?? 0;
    const known = this.#begun === undefined ? bytes.subarray(at) : Buffer.concat([this.#begun, bytes.subarray(at)]);
    const found = known.indexOf(end, Math.max(0, before - end.length), 'latin1');
    if ((found === -1 ? known.length : found + end.length) > maxBytes)
      throw notHttp(this.#state === 'head' ? `its headers have over ${maxBytes} bytes` : 'a chunk has no end');
    if (found === -1) {
      this.#begun = Buffer.from(known);
      return bytes.length;
    }
    this.#begun = undefined;
    take(known.toString('latin1', 0, found));
    return at + found + end.length - before;
  }

  #onHead(text: string): void {
    const head = parseHead(text);
    const { statusCode, headers } = head;
    if (statusCode === 101) throw notHttp('it changes the protocol');
    if (statusCode < 200) {
      this.#parts.head(head);
      return;
    }
    const lengthBytes = lengthOf(headers);
    if (statusCode === 204 || statusCode === 304) this.#missingBytes = 0;
    else if (headers['transfer-encoding'] !== undefined) this.#state = 'chunk line';
    else if (lengthBytes === undefined) this.#state = 'until close';
    else this.#missingBytes = lengthBytes;
    if (this.#state === 'head') this.#state = 'fixed';
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
    const [, digits] = /^([\da-f]{1,12})[ \t]*(?:;|$)/i.exec(text) ?? [];
    if (digits === undefined) throw notHttp('a chunk has no size');
    this.#missingBytes = Number.parseInt(digits, 16);
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

/** Parses a status line and headers. @throws AttemptFailure if they are malformed */
function parseHead(text: string): Head {
  const [first = '', ...lines] = text.split(LINE_END);
  const [, minor, status] = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: |$)/.exec(first) ?? [];
  if (status === undefined) throw notHttp('it has no status line');
  const headers: Record<string, string | string[]> = Object.create(null);
  for (const line of lines) {
    // oxlint-disable-next-line no-control-regex -- a value has none, but tabs
    const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([^\0-\x08\x0a-\x1f\x7f]*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) throw notHttp('a header is malformed');
    const key = name.toLowerCase();
    const known = headers[key];
    headers[key] = known === undefined ? value.trimEnd() : [known, value.trimEnd()].flat();
  }
  const connection = [headers['connection'] ?? []].flat().join(',').toLowerCase();
  const isKept = minor === '1' ? !/\bclose\b/.test(connection) : /\bkeep-alive\b/.test(connection);
  return { statusCode: Number(status), headers, isKept };
}

/** Returns the length of a body. Undefined if it has none in its headers. @throws AttemptFailure if they contradict */
function lengthOf(headers: ReceivedHeaders): number | undefined {
  const encodings = [headers['transfer-encoding'] ?? []].flat();
  const lengths = new Set([headers['content-length'] ?? []].flat());
  if (encodings.length > 0) {
    if (encodings.join(',').toLowerCase() !== 'chunked') throw notHttp('its transfer encoding is not chunked');
    if (lengths.size > 0) throw notHttp('it has both a length and chunks');
  }
  const [length] = lengths;
  if (length === undefined) return undefined;
  if (lengths.size > 1 || !/^\d{1,15}$/.test(length)) throw notHttp('its length is malformed');
  return Number(length);
}
