import { setTimeout as sleep } from 'node:timers/promises';
import { giveBack, isLendingMuch, lend, takeBuffer } from '../bytes/lent-buffers.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import {
  FEW_WAITING_REQUEST_BYTES,
  MAX_ALL_WAITING_REQUEST_BYTES,
  MAX_DATA_BYTES,
  MAX_UNSENT_PER_PEER_BYTES,
  MAX_WAITING_REQUEST_BYTES,
  MAX_EXCHANGE_NARINFO_BYTES,
  MAX_NARINFO_ANSWER_BYTES,
} from '../wire/bounds.ts';
import { keyOf, type LeastSent } from './least-sent.ts';
import { formatDataHead, type Candidate, type Message, type Refusal } from './messages.ts';
import type { Offer, OfferedFile } from './offer.ts';

/** Bytes that are read from the disk at a time. A longer request does not delay shorter ones. */
const READ_BYTES = 256 * 1024;
const MIN_READ_BYTES = 16 * 1024;
/**
 * Requests that are answered at a time; only one of them may be longer than {@link READ_BYTES}. Each may wait for the
 * disk.
 */
const RUNNERS = 4;
/** Ranges that were last sent to a member. It may not have them yet when it asks for any range. */
const MAX_RECENT = 16;
/** Memory of a waiting request, and of each range or hash in it. */
const REQUEST_BYTES = 400;
const ENTRY_BYTES = 100;
/** Memory of a short answer. */
const ANSWER_BYTES = 1000;

/** Counts the memory of all members' waiting requests. */
export class RequestsRoom {
  usedBytes = 0;

  get isShort(): boolean {
    return this.usedBytes >= MAX_ALL_WAITING_REQUEST_BYTES;
  }
}

/** Interval at which narinfos above a host's limit are tried again. */
const NARINFO_RETRY_MS = 50;

/** The parts that answering needs of the connection, and those that all connections share. */
export interface AnswersOptions {
  readonly offer: Offer;
  /** `host:port` of the member. */
  readonly address: string;
  /** Returns true if the scope lets this member have our NARs. */
  readonly mayHave: () => boolean;
  readonly leastSent: LeastSent;
  readonly uploadLimit: RateLimit | undefined;
  /** Asks for room in memory. If there is none, `resume` is called once there may be some. */
  readonly takeRoom: (bytes: number, resume: () => void) => boolean;
  /** Counts a narinfo that is looked up. Returns false if this host must wait for more. */
  readonly admitNarInfo: () => boolean;
  readonly requestsRoom: RequestsRoom;
  /** Called when {@link Answers.isFull} may have become false. */
  readonly readOn: () => void;
  readonly unsentBytes: () => number;
  /** The id that the member uses for the exchange. */
  readonly extensionId: () => number;
  readonly send: (message: Message) => void;
  readonly sendBytes: (bytes: Uint8Array, onSent?: () => void) => void;
  /** Called with the number of sent payload bytes. */
  readonly onUpload: (bytes: number) => void;
}

type Request = Extract<Message, { kind: 'get' | 'any' | 'narinfoGet' }>;

interface Job {
  readonly request: Request;
  /** Its size in memory. */
  readonly bytes: number;
  isCancelled: boolean;
}

/**
 * Answers the requests of one member, in order, as fast as it reads. Reads from the disk only what fits the window of
 * the connection and the memory that all share. Short requests overtake long ones. Reads no further requests of a
 * member while too many wait.
 */
export class Answers {
  readonly #options: AnswersOptions;
  readonly #jobs = new Map<number, Job>();
  readonly #short: Job[] = [];
  readonly #long: Job[] = [];
  readonly #recent: string[] = [];
  readonly #stop = new AbortController();
  #runners = 0;
  #isLongRunning = false;
  #readingBytes = 0;
  #requestBytes = 0;
  readonly #waiting = new Set<() => void>();

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  /** Number of requests that wait or are being answered. */
  get size(): number {
    return this.#jobs.size;
  }

  /** Bytes in memory besides those in the socket. */
  get heldBytes(): number {
    return this.#readingBytes;
  }

  /** True while so much waits that no further request should be read. */
  get isFull(): boolean {
    if (this.#requestBytes < FEW_WAITING_REQUEST_BYTES) return false;
    return this.#requestBytes >= MAX_WAITING_REQUEST_BYTES || this.#options.requestsRoom.isShort;
  }

  /** Adds a request. @returns false if its id is in use */
  ask(request: Request): boolean {
    const { id } = request;
    if (this.#jobs.has(id)) return false;
    const job = { request, bytes: sizeOf(request), isCancelled: false };
    this.#jobs.set(id, job);
    this.#count(job.bytes);
    (isLong(request) ? this.#long : this.#short).push(job);
    this.#run();
    return true;
  }

  /** Cancels a request. Ignores one that has already ended: its end is on the way. */
  cancel(id: number): void {
    const job = this.#jobs.get(id);
    if (job === undefined || job.isCancelled) return;
    job.isCancelled = true;
    for (const queue of [this.#short, this.#long]) {
      const at = queue.indexOf(job);
      if (at === -1) continue;
      queue.splice(at, 1);
      this.#end(job, 'cancelled');
    }
  }

  /** Call this when the socket has taken bytes. */
  onRoom(): void {
    if (this.#options.unsentBytes() >= MAX_UNSENT_PER_PEER_BYTES) return;
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }

  close(): void {
    this.#stop.abort(CLOSED);
    this.#jobs.clear();
    this.#count(-this.#requestBytes);
    this.#short.length = 0;
    this.#long.length = 0;
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }

  #run(): void {
    while (this.#runners < RUNNERS && !this.#stop.signal.aborted) {
      const isLongFree = !this.#isLongRunning && this.#long.length > 0;
      const job = isLongFree ? this.#long.shift() : this.#short.shift();
      if (job === undefined) return;
      this.#runners++;
      if (isLongFree) this.#isLongRunning = true;
      void this.#answer(job).finally(() => {
        this.#runners--;
        if (isLongFree) this.#isLongRunning = false;
        this.#run();
      });
    }
  }

  /** Answers one request. Never rejects. */
  async #answer(job: Job): Promise<void> {
    const { request } = job;
    let refusal: Refusal | undefined;
    try {
      if (!this.#options.mayHave()) refusal = await this.#withhold();
      else if (request.kind === 'get') refusal = await this.#give(job, request.file, request);
      else if (request.kind === 'any') refusal = await this.#giveAny(job, request.candidates);
      else await this.#giveNarInfos(job, request.hashes);
    } catch {
      refusal = 'failed'; // the file is missing or cannot be read, or the connection has ended
    }
    this.#end(job, job.isCancelled && refusal !== undefined ? 'cancelled' : refusal);
  }

  #end(job: Job, refusal: Refusal | undefined): void {
    const { id } = job.request;
    if (this.#jobs.get(id) !== job) return; // the connection has ended
    this.#jobs.delete(id);
    this.#count(-job.bytes);
    if (refusal !== undefined) this.#refuse(id, refusal);
    if (this.#requestBytes < FEW_WAITING_REQUEST_BYTES / 2) this.#options.readOn();
  }

  #count(bytes: number): void {
    this.#requestBytes += bytes;
    this.#options.requestsRoom.usedBytes += bytes;
  }

  /** Refuses everything, as slowly as the member reads. */
  async #withhold(): Promise<Refusal> {
    await this.#room(ANSWER_BYTES);
    return 'withheld';
  }

  #refuse(id: number, reason: Refusal): void {
    this.#options.send({ kind: 'refuse', id, reason });
  }

  async #giveAny(job: Job, candidates: readonly Candidate[]): Promise<Refusal | undefined> {
    const { offer, leastSent } = this.#options;
    await this.#room(READ_BYTES); // otherwise the choice would be out of date when it is sent
    const nowMs = performance.now();
    const mayBe = (index: number): boolean =>
      !leastSent.isOnItsWay(candidates[index]!, nowMs) && hasRange(offer, candidates[index]!);
    const isNew = (index: number): boolean => !this.#recent.includes(keyOf(candidates[index]!)) && mayBe(index);
    let index = leastSent.choose(candidates, isNew);
    if (index === -1) index = leastSent.choose(candidates, mayBe);
    const range = candidates[index];
    if (range === undefined) return 'absent';
    leastSent.note(range, nowMs);
    if (this.#recent.push(keyOf(range)) > MAX_RECENT) this.#recent.shift();
    return this.#give(job, range.prefix, range, index);
  }

  /** Sends a range. Returns a refusal if it was not sent, or only in part. */
  async #give(
    job: Job,
    file: Parameters<Offer['open']>[0],
    { from, length }: { readonly from: number; readonly length: number },
    pickedIndex?: number,
  ): Promise<Refusal | undefined> {
    const { offer, address, leastSent, send } = this.#options;
    const partBytes = this.#partBytes();
    await this.#room(Math.min(length, partBytes));
    const opened = await offer.open(file, { address, from, length });
    if (typeof opened === 'string') return opened;
    await using source = opened;
    if (from + length > source.sizeBytes) return 'range';
    if (pickedIndex === undefined) leastSent.note({ prefix: source.prefix, from });
    const { id } = job.request;
    if (pickedIndex !== undefined) send({ kind: 'picked', id, index: pickedIndex });
    for (let at = from; at < from + length;) {
      const bytes = Math.min(from + length - at, partBytes);
      await this.#options.uploadLimit?.pace(bytes, this.#stop.signal);
      if (at > from) await this.#room(bytes);
      if (job.isCancelled || this.#stop.signal.aborted) return 'cancelled';
      await this.#sendPart(source, id, at, bytes);
      at += bytes;
    }
    return undefined;
  }

  /**
   * Returns the bytes to read at a time. With a limit of our own it is less, so that all waiting members get something
   * often. While many buffers are in use it is one message, so that a waiting message does not keep the memory of a
   * sent one.
   */
  #partBytes(): number {
    const rate = this.#options.uploadLimit?.rateBytesPerSec ?? Infinity;
    const mostBytes = isLendingMuch() ? MAX_DATA_BYTES : READ_BYTES;
    return Math.min(mostBytes, Math.max(MIN_READ_BYTES, Math.floor(rate / 8)));
  }

  async #sendPart(source: OfferedFile, id: number, from: number, bytes: number): Promise<void> {
    const { sendBytes, extensionId, onUpload } = this.#options;
    const buffer = takeBuffer(bytes);
    const part = buffer.subarray(0, bytes);
    this.#readingBytes += bytes;
    try {
      await source.read(part, from);
    } catch (error) {
      giveBack(buffer);
      throw error;
    } finally {
      this.#readingBytes -= bytes;
    }
    lend(buffer, Math.ceil(bytes / MAX_DATA_BYTES) - 1); // one user for each message, instead of the reader
    for (let at = 0; at < bytes; at += MAX_DATA_BYTES) {
      const data = part.subarray(at, at + MAX_DATA_BYTES);
      sendBytes(formatDataHead(id, data.length, extensionId()));
      sendBytes(data, () => giveBack(data));
    }
    onUpload(bytes);
  }

  async #giveNarInfos(job: Job, hashes: Extract<Request, { kind: 'narinfoGet' }>['hashes']): Promise<void> {
    const { offer, send, admitNarInfo } = this.#options;
    let restBytes = MAX_NARINFO_ANSWER_BYTES;
    for (const [index, hash] of hashes.entries()) {
      while (!admitNarInfo()) await sleep(NARINFO_RETRY_MS, undefined, { signal: this.#stop.signal, ref: false });
      await this.#room(ANSWER_BYTES);
      if (job.isCancelled) return;
      const text = Buffer.from((await offer.narInfo(hash)) ?? '');
      const fits = text.length <= Math.min(restBytes, MAX_EXCHANGE_NARINFO_BYTES); // longer ones break the protocol
      if (fits) restBytes -= text.length;
      send({ kind: 'narinfo', id: job.request.id, index, text: fits ? text : Buffer.alloc(0) });
    }
  }

  /** Waits until there is room for an answer of this size. @throws once the connection has ended */
  async #room(bytes: number): Promise<void> {
    for (;;) {
      this.#stop.signal.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      const isFull = this.#options.unsentBytes() >= MAX_UNSENT_PER_PEER_BYTES;
      if (!isFull && this.#options.takeRoom(bytes, resolve)) return;
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
    }
  }
}

/** One error for all aborts: an abort without a reason makes an error with a stack each time. */
const CLOSED = new Error('the connection has ended');

function sizeOf(request: Request): number {
  if (request.kind === 'get') return REQUEST_BYTES;
  const entries = request.kind === 'any' ? request.candidates : request.hashes;
  return REQUEST_BYTES + entries.length * ENTRY_BYTES;
}

function isLong(request: Request): boolean {
  return request.kind === 'any' || (request.kind === 'get' && request.length > READ_BYTES);
}

/** Returns true if these bytes of a file, named by its prefix, are here. */
function hasRange(offer: Offer, { prefix, from, length }: Candidate): boolean {
  const held = offer.holds(prefix);
  if (held === undefined || held === 'whole') return held === 'whole';
  return held.hasRange(from, length);
}
