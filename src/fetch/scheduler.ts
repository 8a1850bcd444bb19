import { EventEmitter, once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import { FileStore } from '../store/file-store.ts';
import { PartialNar } from '../store/partial.ts';
import type { PartialSession } from '../store/session.ts';
import { isSameNar } from '../store/hash-nar.ts';
import type { Network } from '../torrent/network.ts';
import { RateLimit } from '../torrent/rate-limit.ts';
import type { HttpClient } from './http/client.ts';
import type { Upstream } from './http/upstream.ts';
import type { JobObserver, NarJob } from './job.ts';
import { fetchFromPeers, type Patience } from './peer-lane.ts';
import { RateMeter } from './rate-meter.ts';
import { fetchFromUpstreams, UpstreamOrder } from './upstream-lane.ts';

export interface SchedulerOptions {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Absent: nothing is asked of peers. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  /** Empty: everything has to come from peers. */
  readonly upstreams: readonly Upstream[];
  readonly limit?: RateLimit | undefined;
  /** Without an upstream: how long all of it may stand still before the run gives up. Default 60,000. */
  readonly standstillMs?: number | undefined;
  readonly observer: JobObserver;
}

/** NARs asked of peers at once: a torrent needs its own connection, so small ones want many in parallel. */
const PEER_SLOTS = 64;
/** NARs asked of upstreams at once. */
const UPSTREAM_SLOTS = 8;
/** From this size on a NAR is begun early, or it would be the one that everything else waits for. */
const LARGE_BYTES = 8 * 1024 * 1024;
/** With an upstream to turn to, a NAR's peers have this long to send the first byte, or the next. */
const FIRST_BYTE_MS = 1_500;
const STALL_MS = 3_000;
/** Without one byte from any peer in this time, peers get no further NAR where an upstream can have it. */
const PROBE_MS = 3_000;
const STANDSTILL_MS = 60_000;
/** Times that a NAR is begun again after its bytes turned out wrong. */
const ATTEMPTS = 4;

interface Task {
  readonly job: NarJob;
  /** Aborted when an upstream is to take the task from the peers. */
  handOver: AbortController;
  partial: PartialNar | undefined;
  peersTried: boolean;
  attempts: number;
  /** How often each upstream, by its name, sent wrong bytes of this NAR. */
  readonly lies: Map<string, number>;
}

/**
 * Fetches NARs from peers and upstreams at once. Peers come first; an upstream takes what they do not have, what they
 * are slow to send, and, once they turn out slower than it is, a share of the rest: the run ends no later than
 * the upstream alone would have made it.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #limit: RateLimit;
  readonly #order: UpstreamOrder;
  readonly #forPeers: Task[] = [];
  readonly #forUpstreams: Task[] = [];
  readonly #atPeers = new Set<Task>();
  readonly #news = new EventEmitter<{ change: [] }>();
  readonly #peerRate = new RateMeter();
  readonly #upstreamRate = new RateMeter();
  readonly #partials = new Set<PartialNar>();
  readonly #failures: unknown[] = [];
  /** NAR files that lay in the store at the start: an interrupted run left them, maybe. */
  #present: ReadonlySet<string> = new Set();
  #open = 0;
  #beganAtMs = 0;
  #peerBytes = 0;
  #lastByteAtMs = 0;
  #probedAtMs = -Infinity;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#limit = options.limit ?? new RateLimit();
    this.#order = new UpstreamOrder(options.upstreams);
    this.#news.setMaxListeners(0);
  }

  /**
   * Fetches every NAR into the store. What could be had is in the store even where something fails.
   *
   * @throws NAR_UNAVAILABLE with an AggregateError of what each NAR failed of; STORE_FULL, STORE_UNWRITABLE at once; the
   *   signal's reason
   */
  async run(jobs: readonly NarJob[], signal: AbortSignal): Promise<void> {
    if (jobs[0] !== undefined && this.#options.network === undefined && this.#options.upstreams.length === 0) {
      throw unavailable(jobs[0], 'there is neither an upstream nor a peer to ask');
    }
    this.#present = new Set(await readdir(join(this.#options.store.dir, 'nar')).catch(() => []));
    this.#beganAtMs = this.#lastByteAtMs = performance.now();
    const stop = new AbortController();
    const linked = AbortSignal.any([signal, stop.signal]);
    for (const job of inFetchOrder(jobs))
      this.#queue({
        job,
        handOver: new AbortController(),
        partial: undefined,
        peersTried: false,
        attempts: 0,
        lies: new Map(),
      });
    this.#open = jobs.length;
    const timer = setInterval(() => this.#balance(), 250);
    const abort = (): void => void this.#news.emit('change');
    linked.addEventListener('abort', abort);
    const fatal = (error: unknown): void => stop.abort(error);
    const lanes = [
      ...Array.from({ length: this.#options.network === undefined ? 0 : PEER_SLOTS }, () =>
        this.#lane(
          () => this.#forPeers.shift(),
          (task) => this.#byPeers(task, linked),
          linked,
          fatal,
        ),
      ),
      ...Array.from({ length: this.#options.upstreams.length === 0 ? 0 : UPSTREAM_SLOTS }, () =>
        this.#lane(
          () => this.#nextForUpstream(),
          (task) => this.#byUpstreams(task, linked),
          linked,
          fatal,
        ),
      ),
    ];
    try {
      await Promise.all(lanes);
    } finally {
      clearInterval(timer);
      for (const partial of this.#partials) await partial.close();
    }
    linked.throwIfAborted();
    if (this.#failures.length > 0) throw summary(this.#failures, jobs.length);
  }

  /** Runs tasks one after another until all are settled. */
  async #lane(
    next: () => Task | undefined,
    work: (task: Task) => Promise<void>,
    signal: AbortSignal,
    fatal: (error: unknown) => void,
  ): Promise<void> {
    while (this.#open > 0 && !signal.aborted) {
      const task = next();
      if (task === undefined) {
        await once(this.#news, 'change');
        continue;
      }
      try {
        await work(task);
      } catch (error) {
        await this.#forget(task);
        if (signal.aborted) return;
        if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) {
          fatal(error);
          return;
        }
        this.#failures.push(error);
        this.#settle();
      }
    }
  }

  #queue(task: Task): void {
    const toPeers = this.#options.network !== undefined && task.job.torrent !== undefined && !task.peersTried;
    task.handOver = new AbortController();
    if (toPeers || this.#options.upstreams.length === 0) this.#forPeers.push(task);
    else this.#forUpstreams.push(task);
    this.#news.emit('change');
  }

  #settle(): void {
    this.#open--;
    this.#news.emit('change');
  }

  async #byPeers(task: Task, signal: AbortSignal): Promise<void> {
    const { job } = task;
    const { network, upstreams, observer } = this.#options;
    if (network === undefined || job.torrent === undefined) throw unavailable(job, 'no hash map names a torrent of it');
    const partial = await this.#begin(task);
    if (partial === undefined) return;
    this.#atPeers.add(task);
    try {
      const outcome = await fetchFromPeers({ ...job, torrent: job.torrent }, partial, {
        network,
        observer: { ...observer, onBytes: (...facts) => this.#onBytes(...facts) },
        patience: () => this.#patience(),
        handOver: task.handOver.signal,
        signal,
      });
      task.peersTried = true;
      if (outcome === 'given up' && partial.heldBytes === 0) await this.#forget(task); // its buffer would wait for long
      if (outcome === 'complete') await this.#finish(task, partial);
      else if (upstreams.length > 0 || !this.#standsStill()) this.#queue(task);
      else throw unavailable(job, 'no peer delivers it');
    } finally {
      this.#atPeers.delete(task);
    }
  }

  async #byUpstreams(task: Task, signal: AbortSignal): Promise<void> {
    const partial = await this.#begin(task);
    if (partial === undefined) return;
    const { http, observer, network } = this.#options;
    try {
      await fetchFromUpstreams(task.job, partial, {
        upstreams: this.#order.of(task.lies),
        onOutcome: (upstream, failure) => this.#order.note(upstream, failure),
        http,
        limit: this.#limit,
        observer: { ...observer, onBytes: (...facts) => this.#onBytes(...facts) },
        signal,
      });
    } catch (error) {
      if (signal.aborted || isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw error;
      if (network === undefined || task.job.torrent === undefined || task.attempts++ >= ATTEMPTS)
        throw unavailable(task.job, reasonsOf(error), error);
      observer.onWarning(`${(error as Error).message}; trying peers again`);
      task.peersTried = false;
      this.#queue(task);
      return;
    }
    await this.#finish(task, partial);
  }

  /** Opens the partial file, unless the NAR is there already: then the task is settled and nothing is returned. */
  async #begin(task: Task): Promise<PartialNar | undefined> {
    if (task.partial !== undefined) return task.partial;
    const { job } = task;
    const target = this.pathOf(job);
    if (this.#present.has(basename(target)) && (await isSameNar(target, job))) {
      this.#options.observer.onNar(job);
      this.#settle();
      return undefined;
    }
    task.partial = await PartialNar.open(this.#options.session.path(job.fileHash), job);
    this.#partials.add(task.partial);
    return task.partial;
  }

  async #forget(task: Task): Promise<void> {
    if (task.partial === undefined) return;
    await task.partial.close();
    this.#partials.delete(task.partial);
    task.partial = undefined;
  }

  async #finish(task: Task, partial: PartialNar): Promise<void> {
    try {
      await partial.settle(this.pathOf(task.job));
    } catch (error) {
      if (!isNarswarmError(error, 'HASH_MISMATCH') || task.attempts++ >= ATTEMPTS) throw error;
      this.#blame(task, String(error.facts['origins']));
      if (this.#options.network === undefined && this.#order.of(task.lies).length === 0) throw error;
      this.#options.observer.onWarning(`${error.message}; fetching ${task.job.info.storePath} again`);
      if (error.facts['mapLied'] === true) {
        task.job.torrent = undefined;
        await partial.discard();
        await this.#forget(task);
        if (this.#options.upstreams.length === 0) throw error;
      }
      this.#queue(task);
      return;
    }
    await this.#forget(task);
    this.#options.observer.onNar(task.job);
    this.#settle();
  }

  #blame({ lies }: Task, origins: string): void {
    const liars = origins.split(', ');
    for (const { name } of this.#options.upstreams) if (liars.includes(name)) lies.set(name, (lies.get(name) ?? 0) + 1);
  }

  /** Where the NAR of a job lies once it is verified. */
  pathOf(job: NarJob): string {
    return join(this.#options.store.dir, FileStore.narUrl(job.fileHash, job.extension));
  }

  #onBytes(source: 'peers' | 'upstream', origin: string, bytes: number): void {
    this.#lastByteAtMs = performance.now();
    if (source === 'peers') this.#peerBytes += bytes;
    (source === 'peers' ? this.#peerRate : this.#upstreamRate).add(bytes, this.#lastByteAtMs);
    this.#options.observer.onBytes(source, origin, bytes);
  }

  #patience(): Patience {
    if (this.#options.upstreams.length > 0) return { firstByteMs: FIRST_BYTE_MS, stallMs: STALL_MS };
    return this.#standsStill() ? { firstByteMs: 0, stallMs: 0 } : { firstByteMs: Infinity, stallMs: STALL_MS };
  }

  /** True where no source has sent a byte for so long that a run without an upstream gives up. */
  #standsStill(): boolean {
    return performance.now() - this.#lastByteAtMs > (this.#options.standstillMs ?? STANDSTILL_MS);
  }

  #nextForUpstream(): Task | undefined {
    const waiting = this.#forUpstreams.shift();
    if (waiting !== undefined) return waiting;
    if (!this.#upstreamMayHelp()) return undefined;
    return this.#forPeers.pop();
  }

  /** Whether an upstream takes NARs that peers might still send. */
  #upstreamMayHelp(): boolean {
    const now = performance.now();
    const elapsedMs = now - this.#beganAtMs;
    if (this.#forPeers.length === 0 && this.#atPeers.size === 0) return false;
    if (this.#peerBytes === 0) return elapsedMs > PROBE_MS || !this.#anyPeer();
    if (elapsedMs < PROBE_MS) return false;
    const peerRate = this.#peerRate.rate(now);
    const upstreamRate = this.#upstreamRate.rate(now);
    if (upstreamRate > 0) return upstreamRate > peerRate / 2;
    if (now - this.#probedAtMs < 5 * PROBE_MS) return false;
    this.#probedAtMs = now; // one NAR, to learn what the upstream is worth
    return true;
  }

  #anyPeer(): boolean {
    return this.#options.network?.discovery.candidates().some((peer) => peer.banned === undefined) ?? false;
  }

  /** Looks four times a second whether idle upstream lanes should take something over. */
  #balance(): void {
    if (
      this.#options.upstreams.length > 0 &&
      this.#forPeers.length === 0 &&
      this.#forUpstreams.length === 0 &&
      this.#upstreamMayHelp()
    ) {
      slowest(this.#atPeers)?.handOver.abort();
    }
    this.#news.emit('change');
  }
}

/** Large NARs first, the rest in random order: a cohort that starts at once must not ask the seeder for the same one. */
function inFetchOrder(jobs: readonly NarJob[]): NarJob[] {
  const shuffled = jobs.map((job) => ({ job, key: Math.random() + (job.sizeBytes >= LARGE_BYTES ? -1 : 0) }));
  return shuffled.toSorted((a, b) => a.key - b.key).map(({ job }) => job);
}

/** The task with most left to do: the one that everything else would wait for. */
function slowest(tasks: Iterable<Task>): Task | undefined {
  const left = (task: Task): number => task.job.sizeBytes - (task.partial?.heldBytes ?? 0);
  return [...tasks]
    .filter((task) => !task.handOver.signal.aborted && left(task) > LARGE_BYTES / 8)
    .toSorted((a, b) => left(b) - left(a))[0];
}

/** What each upstream said, in one line. */
function reasonsOf(error: unknown): string {
  const errors: unknown[] = error instanceof AggregateError && error.errors.length > 0 ? error.errors : [error];
  return errors.map((one) => (one instanceof Error ? one.message : String(one))).join('; ');
}

function unavailable(job: NarJob, reason: string, cause?: unknown): NarswarmError {
  return new NarswarmError('NAR_UNAVAILABLE', `cannot fetch ${job.info.storePath}: ${reason}`, {
    facts: { path: job.info.storePath, fileHash: job.fileHash },
    ...(cause === undefined ? {} : { cause }),
  });
}

function summary(failures: readonly unknown[], total: number): NarswarmError {
  const first = failures[0] instanceof Error ? failures[0].message : String(failures[0]);
  const more = failures.length > 1 ? ` (and ${failures.length - 1} more)` : '';
  return new NarswarmError(
    'NAR_UNAVAILABLE',
    `${failures.length} of ${total} NARs could not be fetched: ${first}${more}; the others are kept`,
    {
      cause: new AggregateError(failures),
      facts: { failed: failures.length, total },
    },
  );
}
