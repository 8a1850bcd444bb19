import { FEW_WAITING_REQUEST_BYTES, MAX_WAITING_REQUEST_BYTES } from '../../wire/bounds.ts';
import type { AskingMessage, Refusal } from '../messages/messages.ts';
import type { HostRequestsRoom } from './requests-room.ts';

/** The longest range of a short request. Short requests overtake long ones, so pieces of a large file come in order. */
const MAX_SHORT_BYTES = 128 * 1024;
/** Requests that are answered at a time; only one of them may be long. Each may wait for the disk. */
const RUNNERS = 4;
/** Memory of a waiting request, and of each range or hash in it. */
const REQUEST_BYTES = 400;
const ENTRY_BYTES = 100;

/** A message that is answered. */
export type Request = Extract<AskingMessage, { kind: 'get' | 'any' | 'narinfoGet' }>;

/** A request that waits or is being answered. */
export interface Job {
  readonly request: Request;
  /** Its size in memory. */
  readonly bytes: number;
  isCancelled: boolean;
}

export interface RequestQueueOptions {
  readonly room: HostRequestsRoom;
  /** Answers a request. Never rejects. Returns a refusal if it was not answered, or only in part. */
  readonly answer: (job: Job) => Promise<Refusal | undefined>;
  /** Called with each request that ends with a refusal. */
  readonly refuse: (id: number, reason: Refusal) => void;
  /** Called when {@link RequestQueue.isFull} may have become false. */
  readonly readOn: () => void;
}

/** The requests of one member, in order, and several at a time. Short ones overtake long ones. */
export class RequestQueue {
  readonly #options: RequestQueueOptions;
  readonly #jobs = new Map<number, Job>();
  readonly #short: Job[] = [];
  readonly #long: Job[] = [];
  #runners = 0;
  #isLongRunning = false;
  #bytes = 0;
  #isClosed = false;

  constructor(options: RequestQueueOptions) {
    this.#options = options;
  }

  /** Number of requests that wait or are being answered. */
  get size(): number {
    return this.#jobs.size;
  }

  /** True while so much waits that no further request should be read. */
  get isFull(): boolean {
    if (this.#bytes < FEW_WAITING_REQUEST_BYTES) return false;
    return this.#bytes >= MAX_WAITING_REQUEST_BYTES || this.#options.room.isShort;
  }

  /** Adds a request. @returns false if its id is in use */
  add(request: Request): boolean {
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

  close(): void {
    this.#isClosed = true;
    this.#jobs.clear();
    this.#count(-this.#bytes);
    this.#short.length = 0;
    this.#long.length = 0;
  }

  #run(): void {
    while (this.#runners < RUNNERS && !this.#isClosed) {
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

  async #answer(job: Job): Promise<void> {
    const refusal = await this.#options.answer(job);
    this.#end(job, job.isCancelled && refusal !== undefined ? 'cancelled' : refusal);
  }

  #end(job: Job, refusal: Refusal | undefined): void {
    const { id } = job.request;
    if (this.#jobs.get(id) !== job) return; // the connection has ended
    this.#jobs.delete(id);
    this.#count(-job.bytes);
    if (refusal !== undefined) this.#options.refuse(id, refusal);
    if (this.#bytes < FEW_WAITING_REQUEST_BYTES / 2) this.#options.readOn();
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    this.#options.room.count(bytes);
  }
}

function sizeOf(request: Request): number {
  if (request.kind === 'get') return REQUEST_BYTES;
  const entries = request.kind === 'any' ? request.candidates : request.hashes;
  return REQUEST_BYTES + entries.length * ENTRY_BYTES;
}

function isLong(request: Request): boolean {
  return request.kind === 'any' || (request.kind === 'get' && request.length > MAX_SHORT_BYTES);
}
