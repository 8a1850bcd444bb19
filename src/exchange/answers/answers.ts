import { setTimeout as sleep } from 'node:timers/promises';
import { giveBack, isLendingMuch, lend, takeBuffer } from '../../bytes/lent-buffers.ts';
import type { RateLimit } from '../../bytes/rate-limit.ts';
import {
  MAX_DATA_BYTES,
  MAX_EXCHANGE_NARINFO_BYTES,
  MAX_NARINFO_ANSWER_BYTES,
  MAX_UNSENT_PER_PEER_BYTES,
} from '../../wire/bounds.ts';
import { formatDataHead } from '../messages/format-message.ts';
import { keyOf, type Giving, type LeastSent } from './least-sent.ts';
import type { Candidate, Refusal, ServingMessage } from '../messages/messages.ts';
import type { Offer, OfferedFile } from './offer.ts';
import { RequestQueue, type Job, type Request } from './request-queue.ts';
import type { HostRequestsRoom } from './requests-room.ts';

/** Bytes that are read from the disk at a time: a piece takes one read. */
const READ_BYTES = 256 * 1024;
const MIN_READ_BYTES = 16 * 1024;
/** Ranges that were last sent to a member. It may not have them yet when it asks for any range. */
const MAX_RECENT = 16;
/** Memory of a short answer. */
const ANSWER_BYTES = 1000;

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
  /** Calls `answer` when it is the turn of this member, and resolves with its result. */
  readonly takeTurn: <T>(answer: () => Promise<T>) => Promise<T>;
  /** Asks for room in memory. If there is none, `resume` is called once there may be some. */
  readonly takeRoom: (bytes: number, resume: () => void) => boolean;
  /** Counts a narinfo that is looked up. Returns false if this host must wait for more. */
  readonly admitNarInfo: () => boolean;
  readonly requestsRoom: HostRequestsRoom;
  /** Called when {@link Answers.isFull} may have become false. */
  readonly readOn: () => void;
  readonly unsentBytes: () => number;
  /** The id that the member uses for the exchange. */
  readonly extensionId: () => number;
  readonly send: (message: ServingMessage) => void;
  readonly sendBytes: (bytes: Uint8Array, onSent?: () => void) => void;
  /** Called with the number of sent payload bytes. */
  readonly onUpload: (bytes: number) => void;
}

/** A range that was chosen for a member. */
interface Picked {
  readonly index: number;
  readonly range: Candidate;
  readonly giving: Giving;
}

/**
 * Answers the requests of one member, in order, as fast as it reads. Reads from the disk only what fits the window of
 * the connection and the memory that all share. Short requests overtake long ones. Reads no further requests of a
 * member while too many wait.
 */
export class Answers {
  readonly #options: AnswersOptions;
  readonly #queue: RequestQueue;
  readonly #recent: string[] = [];
  readonly #stop = new AbortController();
  #readingBytes = 0;
  readonly #waiting = new Set<() => void>();

  constructor(options: AnswersOptions) {
    this.#options = options;
    this.#queue = new RequestQueue({
      room: options.requestsRoom,
      answer: (job) => this.#answer(job),
      refuse: (id, reason) => options.send({ kind: 'refuse', id, reason }),
      readOn: options.readOn,
    });
  }

  /** Number of requests that wait or are being answered. */
  get size(): number {
    return this.#queue.size;
  }

  /** Bytes in memory besides those in the socket. */
  get heldBytes(): number {
    return this.#readingBytes;
  }

  /** True while so much waits that no further request should be read. */
  get isFull(): boolean {
    return this.#queue.isFull;
  }

  /** Adds a request. @returns false if its id is in use */
  ask(request: Request): boolean {
    return this.#queue.add(request);
  }

  /** Cancels a request. Ignores one that has already ended: its end is on the way. */
  cancel(id: number): void {
    this.#queue.cancel(id);
  }

  /** Call this when the socket has taken bytes. */
  onRoom(): void {
    if (this.#options.unsentBytes() >= MAX_UNSENT_PER_PEER_BYTES) return;
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }

  close(): void {
    this.#stop.abort(CLOSED);
    this.#queue.close();
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }

  /** Answers one request. Never rejects. */
  async #answer(job: Job): Promise<Refusal | undefined> {
    const { request } = job;
    try {
      if (!this.#options.mayHave()) return await this.#withhold();
      if (request.kind === 'get') return await this.#give(job, request.file, request);
      if (request.kind === 'any') return await this.#giveAny(job, request.candidates);
      await this.#giveNarInfos(job, request.hashes);
      return undefined;
    } catch {
      return 'failed'; // the file is missing or cannot be read, or the connection has ended
    }
  }

  /** Refuses everything, as slowly as the member reads. */
  async #withhold(): Promise<Refusal> {
    await this.#room(ANSWER_BYTES);
    return this.#turn(() => Promise.resolve('withheld'));
  }

  async #giveAny(job: Job, candidates: readonly Candidate[]): Promise<Refusal | undefined> {
    await this.#room(READ_BYTES); // otherwise the choice would be out of date when it is sent
    const picked = await this.#turn(() => Promise.resolve(this.#choose(candidates)));
    return picked === undefined ? 'absent' : this.#give(job, picked.range.prefix, picked.range, picked);
  }

  /** Chooses the range that was sent least. Returns undefined if none is here. */
  #choose(candidates: readonly Candidate[]): Picked | undefined {
    const { offer, leastSent } = this.#options;
    const nowMs = performance.now();
    const mayBe = (index: number): boolean =>
      !leastSent.isOnItsWay(candidates[index]!, nowMs) && hasRange(offer, candidates[index]!);
    const isNew = (index: number): boolean => !this.#recent.includes(keyOf(candidates[index]!)) && mayBe(index);
    let index = leastSent.choose(candidates, isNew);
    if (index === -1) index = leastSent.choose(candidates, mayBe);
    const range = candidates[index];
    if (range === undefined) return undefined;
    if (this.#recent.push(keyOf(range)) > MAX_RECENT) this.#recent.shift();
    return { index, range, giving: leastSent.give(range) };
  }

  /** Sends a range. Returns a refusal if it was not sent, or only in part. */
  async #give(
    job: Job,
    file: Parameters<Offer['open']>[0],
    { from, length }: { readonly from: number; readonly length: number },
    picked?: Picked,
  ): Promise<Refusal | undefined> {
    const { offer, address, leastSent, send } = this.#options;
    let giving = picked?.giving;
    let isSent = false;
    try {
      const partBytes = this.#partBytes();
      await this.#room(Math.min(length, partBytes));
      const opened = await this.#turn(() => offer.open(file, { address, from, length }));
      if (typeof opened === 'string') return opened;
      await using source = opened;
      if (from + length > source.sizeBytes) return 'range';
      giving ??= leastSent.give({ prefix: source.prefix, from });
      const { id } = job.request;
      if (picked !== undefined) send({ kind: 'picked', id, index: picked.index });
      for (let at = from; at < from + length;) {
        const bytes = Math.min(from + length - at, partBytes);
        await this.#options.uploadLimit?.pace(bytes, this.#stop.signal);
        if (at > from) await this.#room(bytes);
        if (job.isCancelled || this.#stop.signal.aborted) return 'cancelled';
        const ended = at + bytes === from + length ? giving : undefined;
        await this.#turn(() => this.#sendPart(source, id, { from: at, bytes, ended }));
        at += bytes;
      }
      isSent = true;
      return undefined;
    } finally {
      if (!isSent) giving?.end(false);
    }
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

  /** @param part.ended the giving of which it is the end */
  async #sendPart(
    source: OfferedFile,
    id: number,
    { from, bytes, ended }: { readonly from: number; readonly bytes: number; readonly ended: Giving | undefined },
  ): Promise<void> {
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
      const isLast = at + MAX_DATA_BYTES >= bytes;
      sendBytes(data, () => {
        giveBack(data);
        if (isLast) ended?.end(!this.#stop.signal.aborted);
      });
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
      const text = Buffer.from((await this.#turn(() => offer.narInfo(hash))) ?? '');
      const fits = text.length <= Math.min(restBytes, MAX_EXCHANGE_NARINFO_BYTES); // longer ones break the protocol
      if (fits) restBytes -= text.length;
      send({ kind: 'narinfo', id: job.request.id, index, text: fits ? text : Buffer.alloc(0) });
    }
  }

  /** Runs a part of an answer when it is the turn of this member. @throws once the connection has ended */
  #turn<T>(part: () => Promise<T>): Promise<T> {
    return this.#options.takeTurn(() => {
      this.#stop.signal.throwIfAborted();
      return part();
    });
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

/** Returns true if these bytes of a file, named by its prefix, are here. */
function hasRange(offer: Offer, { prefix, from, length }: Candidate): boolean {
  const held = offer.holds(prefix);
  if (held === undefined || held === 'whole') return held === 'whole';
  return held.hasRange(from, length);
}
