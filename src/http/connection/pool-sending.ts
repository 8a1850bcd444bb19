import { hungUp, notHttp, stalled, trickled } from '../transfer/failure.ts';
import type { Head } from './response-head.ts';
import { ResponseParser } from './response-parser.ts';
import type { Receiver, Sending, SentRequest } from './sender.ts';
import type { StallWatch, Watched } from '../transfer/stall-watch.ts';
import { Trickle } from '../transfer/trickle.ts';

/** Limits on the time without a byte of the head, and of the body. */
export interface Patience {
  /** Also the limit on the time in which less than 1 byte/s of the body comes. */
  readonly stallTimeoutMs: number;
  readonly bodyTimeoutMs: number;
}

/** The connection of a request. */
export interface Line {
  pause(): void;
  resume(): void;
  close(): void;
}

/** Limit on sending a request again because its connection was closed before the answer began. */
const MAX_REPEATS = 4;

/** One GET and its answer on a connection. */
export class PoolSending implements Sending, Watched {
  readonly #request: SentRequest;
  readonly #receiver: Receiver;
  readonly #patience: Patience;
  readonly #watch: StallWatch;
  readonly #onEnd: () => void;
  readonly #parser: ResponseParser;
  #line: Line | undefined;
  #repeats = 0;
  /** What it waits for, and for how long. Undefined: it waits for nothing. */
  #awaited: { readonly phase: 'headers' | 'body'; readonly withinMs: number } | undefined;
  /** Since when, by the clock of the watch. */
  #sinceMs = 0;
  #trickle: Trickle | undefined;
  #isKept = false;
  #isAnswered = false;
  #hasHead = false;
  #hasEnded = false;
  paused = false;

  constructor(request: SentRequest, receiver: Receiver, patience: Patience, watch: StallWatch, onEnd: () => void) {
    this.#request = request;
    this.#receiver = receiver;
    this.#patience = patience;
    this.#watch = watch;
    this.#onEnd = onEnd;
    this.#parser = new ResponseParser({
      head: (head) => this.#onHead(head),
      body: (chunk) => this.#receiver.onResponseData(this, chunk),
      end: () => this.#end(),
    });
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** True once the whole answer has come, and the connection can be used for another one. */
  get leavesConnection(): boolean {
    return this.#hasEnded && this.#parser.hasEnded && this.#parser.isPlain && this.#isKept && !this.#request.isLast;
  }

  /** True once a byte of the answer has come. */
  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** True if the answer is short, so that another one may wait behind it. */
  get isShort(): boolean {
    return this.#request.isShort;
  }

  get isNar(): boolean {
    return this.#request.isNar;
  }

  /** Returns the request as text. @throws Error if a header cannot be sent */
  format(): string {
    return formatRequest(this.#request);
  }

  /** Takes the connection over which the request is sent. */
  attach(line: Line): void {
    this.#line = line;
  }

  /** Leaves a connection that was closed, to be sent over another one. @returns false if it must fail instead */
  repeat(): boolean {
    if (this.#hasEnded || this.#isAnswered || this.#repeats >= MAX_REPEATS) return false;
    this.#repeats++;
    this.#expectNothing();
    this.#line = undefined;
    return true;
  }

  /** Begins to wait for the answer: those before it on the connection are complete. */
  expectAnswer(): void {
    this.#expect(this.#patience.stallTimeoutMs, 'headers');
  }

  /** Takes bytes of the connection. @returns the number of bytes that belong to the answer */
  onData(bytes: Buffer): number {
    if (this.#hasEnded) return 0;
    this.#isAnswered = true;
    const ownMs = this.#watch.ownMs;
    if (this.#hasHead) this.#sinceMs = ownMs;
    try {
      if (this.#trickle?.take(bytes.length, ownMs) === true) throw trickled(this.#patience.stallTimeoutMs);
      return this.#parser.push(bytes);
    } catch (error) {
      this.fail(error as Error);
      return 0;
    }
  }

  /** Takes the end of the connection. */
  onClose(error: Error | undefined): void {
    if (this.#hasEnded || (error === undefined && this.#hasHead && this.#parser.close())) return;
    this.fail(error ?? hungUp());
  }

  /** Fails the request if nothing has come for too long. */
  look(ownMs: number): void {
    if (this.#awaited === undefined || ownMs - this.#sinceMs < this.#awaited.withinMs) return;
    this.fail(stalled(this.#awaited.phase));
  }

  pause(): void {
    this.paused = true;
    if (this.#hasEnded) return; // its connection may serve another request by now
    this.#expectNothing();
    this.#line?.pause();
  }

  resume(): void {
    this.paused = false;
    if (this.#hasEnded) return;
    this.#expect(this.#patience.bodyTimeoutMs, 'body');
    this.#trickle?.resume(this.#watch.ownMs);
    this.#line?.resume();
  }

  abort(reason: Error): void {
    this.fail(reason);
  }

  /** Ends the request. Closes its connection, which would send the rest of the answer. */
  fail(error: Error): void {
    if (this.#hasEnded) return;
    this.#close();
    this.#isKept = false;
    this.#line?.close();
    this.#receiver.onResponseError(this, error);
  }

  #onHead({ statusCode, headers, isKept }: Head): void {
    if (this.#hasEnded) throw notHttp('nobody waits for it');
    if (statusCode >= 200) {
      this.#hasHead = true;
      this.#isKept = isKept;
      this.#expect(this.#patience.bodyTimeoutMs, 'body');
      this.#trickle = new Trickle(this.#patience.stallTimeoutMs, this.#watch.ownMs);
    }
    this.#receiver.onResponseStart(this, statusCode, headers);
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#close();
    this.#receiver.onResponseEnd();
  }

  #expect(withinMs: number, phase: 'headers' | 'body'): void {
    if (this.#hasEnded || this.paused) return;
    this.#awaited = { phase, withinMs };
    this.#watch.watch(this);
    this.#sinceMs = this.#watch.ownMs;
  }

  #expectNothing(): void {
    this.#awaited = undefined;
    this.#watch.leave(this);
  }

  #close(): void {
    this.#hasEnded = true;
    this.#expectNothing();
    this.#onEnd();
  }
}

function formatRequest({ origin, path, headers, isLast }: SentRequest): string {
  const lines = [
    `GET ${path} HTTP/1.1`,
    `host: ${origin.slice(origin.indexOf('//') + 2)}`,
    `connection: ${isLast ? 'close' : 'keep-alive'}`,
  ];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  const text = lines.join('\r\n');
  // oxlint-disable-next-line no-control-regex -- these are the characters that would end a line
  if (/[\0\r]|[^\0-\xff]/.test(lines.join('')) || lines.some((line) => line.includes('\n')))
    throw Object.assign(new Error('a header has a character that HTTP cannot send'), { code: 'HEADER' });
  return `${text}\r\n\r\n`;
}
