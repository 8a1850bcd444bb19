import { setTimeout as sleep } from 'node:timers/promises';
import type { Upstream } from '../../http/upstream.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { FileStore } from '../../store/file-store.ts';
import { claimClosure } from '../plan/claim-closure.ts';
import { newJob, type NarJob } from '../plan/job.ts';
import { namedFile } from '../plan/named-file.ts';
import type { Planned } from '../plan/planning.ts';
import type { ReleasedNars } from '../plan/released-nars.ts';
import { Scheduler } from '../scheduler/scheduler.ts';
import type { SchedulerOptions } from '../scheduler/scheduler-options.ts';
import type { Target } from '../plan/target.ts';
import { UpstreamOrder } from '../scheduler/upstream-order.ts';

/**
 * Largest NAR that is begun before the whole plan is known. Round trips take most of the time of these. Larger ones
 * would delay NARs that an import needs earlier.
 */
const MAX_BYTES = 1024 * 1024;
/**
 * Part of its time for which this process is busy. Below this, the walk waits for round trips, which leaves time for
 * NARs. Above it, further work would only slow the walk down.
 */
const BUSY = 0.5;
/**
 * Milliseconds from the start for neighbours to answer our announcement. Many neighbours spread their answers over a
 * quarter of a second, so the first answer comes soon. Neighbours that have answered by then are asked before any cache.
 */
const NO_NEIGHBOUR_MS = 150;
const NEIGHBOURS_MS = 300;
/** Milliseconds in which found paths gather: their claims are written to the disk, and Nix is asked for them. */
const GATHER_MS = 25;

/** Means of fetching NARs, and of finding out which are needed. */
export interface HeadStartOptions extends Omit<SchedulerOptions, 'upstreams' | 'order' | keyof Receiver> {
  /** Undefined: every path is needed. */
  readonly target: Pick<Target, 'invalidPaths'> | undefined;
  /** Returns the present upstreams in the order of asking. At least one. */
  readonly caches: () => readonly Upstream[];
  /** Gives each job its torrent in a hash map. Waits for silent publishers once. Returns as {@link attachInTime} does. */
  readonly attach: (jobs: readonly NarJob[]) => Promise<Planned['torrentsLate']>;
  /**
   * Returns true for NARs that a patch may make: the plan decides. Called after `attach`. While publishers are late, any NAR
   * may be one of these. Default: none
   */
  readonly mayPatch?: ((info: NarInfo) => boolean) | undefined;
  /** Limit on the bytes of NARs that are begun. Default: unlimited. */
  readonly maxBytes?: number | undefined;
  /** NARs that the plan takes from the Nix store of this machine. Default: none. */
  readonly released?: Pick<ReleasedNars, 'has'> | undefined;
  readonly signal: AbortSignal;
}

/** Receives the NARs of a fetch, and says in which order they are wanted. */
export type Receiver = Pick<SchedulerOptions, 'placeOf' | 'onBegun' | 'onFetched'>;

/**
 * Fetches small NARs while the walk that finds them goes on: each level of a closure costs a round trip. The same
 * scheduler fetches the rest of the plan afterwards. If the walk fails, NARs that have arrived stay in the store.
 */
export class HeadStart implements AsyncDisposable {
  readonly order: UpstreamOrder;
  readonly scheduler: Scheduler;
  readonly #options: HeadStartOptions;
  readonly #jobs = new Map<FileHash, NarJob>();
  readonly #keptBytes = new Map<FileHash, number>();
  /** Found NARs that are not begun. */
  #found: NarJob[] = [];
  /** Bytes that may still be begun. */
  #leftBytes: number;
  #beginning: Promise<void> | undefined;
  #running: Promise<void> | undefined;
  /** Why a begun NAR could not even be opened. */
  #failure: { readonly error: unknown } | undefined;
  #torrentsLate: Planned['torrentsLate'];
  readonly #createdAtMs = performance.now();
  /** Aborted when no further NARs are begun. */
  readonly #over = new AbortController();
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** NARs that arrived before there was a receiver. */
  #early: Parameters<Receiver['onFetched']>[] | undefined = [];
  #receiver: Receiver | undefined;

  constructor(options: HeadStartOptions) {
    this.#options = options;
    this.#leftBytes = options.maxBytes ?? Infinity;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.order = new UpstreamOrder(options.caches());
    this.scheduler = new Scheduler({
      ...options,
      upstreams: this.order.upstreams,
      order: this.order,
      onBegun: (...begun) => this.#receiver?.onBegun?.(...begun),
      onFetched: (...fetched) => {
        if (this.#receiver === undefined) this.#early?.push(fetched);
        else this.#receiver.onFetched(...fetched);
      },
    });
  }

  /** The NARs that were begun, by the files that their narinfos name. */
  get jobs(): ReadonlyMap<FileHash, NarJob> {
    return this.#jobs;
  }

  /** Bytes of these that were held from earlier runs. */
  get keptBytes(): ReadonlyMap<FileHash, number> {
    return this.#keptBytes;
  }

  /** Resolves once torrents can be looked up without waiting. Undefined: the begun NARs have theirs. */
  get torrentsLate(): Planned['torrentsLate'] {
    return this.#torrentsLate;
  }

  /** Takes a narinfo with a trusted signature. @param cache the cache whose own narinfo it is */
  take(info: NarInfo, cache: Upstream | undefined): void {
    const file = namedFile(info);
    if (this.#over.signal.aborted || file === undefined || file.sizeBytes > MAX_BYTES) return;
    this.#found.push(newJob(file, info, cache));
    this.#beginning ??= this.#begin()
      .catch(() => undefined) // the plan meets the same failure
      .finally(() => (this.#beginning = undefined));
  }

  /** Call it when the walk is over: no further NARs are begun. */
  end(): void {
    this.#over.abort();
    this.#found = []; // a mirror may have found 100,000
  }

  /**
   * Fetches further NARs, and waits for all.
   *
   * @param others settles once all other NARs have been given to the scheduler. Default: there are none
   * @throws as {@link Scheduler.run}
   */
  async finish(jobs: readonly NarJob[], receiver: Receiver, others?: Promise<unknown>): Promise<void> {
    this.#receiver = receiver;
    for (const fetched of this.#early ?? []) receiver.onFetched(...fetched);
    this.#early = undefined;
    this.#update();
    await this.#add(
      jobs.filter((job) => this.#jobs.get(job.fileHash) !== job),
      receiver,
    );
    await this.#beginning;
    await others?.catch(() => undefined); // reported to its caller
    this.scheduler.noMore();
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Stops. Keeps the bytes that have arrived. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.end();
    this.#stop.abort();
    await this.#beginning;
    await this.#running?.catch(() => undefined);
  }

  async #begin(): Promise<void> {
    while (this.#found.length > 0) {
      await this.#pause();
      const found = this.#found;
      this.#found = [];
      const needed = await this.#needed(found);
      const torrentsLate = await this.#options.attach(needed);
      if (this.#over.signal.aborted) return; // the plan has them
      const { session, mayPatch, tell } = this.#options;
      if (mayPatch !== undefined && torrentsLate !== undefined) continue; // so does it here
      this.#torrentsLate ??= torrentsLate;
      this.#update();
      const jobs = this.#withinLimit(needed.filter(({ info }) => mayPatch?.(info) !== true));
      for (const job of jobs) {
        this.#jobs.set(job.fileHash, job);
        this.#keptBytes.set(job.fileHash, session.leftoverBytes(job.fileHash, job.sizeBytes));
      }
      if (jobs.length === 0) continue;
      tell({ type: 'downloading', nars: jobs.length, bytes: jobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) });
      await this.#add(jobs).catch((error: unknown) => (this.#failure ??= { error }));
    }
  }

  /** Lets paths gather. Before the first NARs, also waits for neighbours, and for a moment in which the walk leaves time. */
  async #pause(): Promise<void> {
    for (;;) {
      const before = performance.eventLoopUtilization();
      await sleep(GATHER_MS, undefined, { signal: this.#over.signal });
      const isBusy = performance.eventLoopUtilization(before).utilization > BUSY;
      if (this.#running !== undefined || (!isBusy && performance.now() > this.#neighboursUntilMs)) return;
    }
  }

  /** Time until which more neighbours may be about to answer. */
  get #neighboursUntilMs(): number {
    const { network } = this.#options;
    if (network === undefined) return -Infinity;
    const { members, discovery } = network;
    if (members.open.size > 0 || members.isMeeting) return this.#createdAtMs + NEIGHBOURS_MS;
    return discovery.mayMeetNeighbours ? this.#createdAtMs + NO_NEIGHBOUR_MS : -Infinity;
  }

  /** Claims NARs, and returns those that neither the target nor the store has. */
  async #needed(found: readonly NarJob[]): Promise<NarJob[]> {
    const { store, target } = this.#options;
    const files = new Map(found.filter(({ fileHash }) => !this.#jobs.has(fileHash)).map((job) => [job.fileHash, job]));
    const lacking = await target?.invalidPaths(Array.from(files.values(), ({ info }) => info.storePath));
    const needed = [...files.values()].filter(({ info }) => lacking?.has(info.storePath) !== false);
    await claimClosure(new Map(needed.map(({ info }) => [storeHashOf(info.storePath), info])), this.#options);
    return needed.filter(({ info, fileHash, extension }) => {
      if (this.#options.released?.has(info.storePath) === true) return false;
      const local = { url: FileStore.narUrl(fileHash, extension), storePath: info.storePath };
      return store.statNarNow(local) === undefined; // the plan finds out whether it is right
    });
  }

  /** Returns the first NARs that the limit leaves room for. */
  #withinLimit(jobs: readonly NarJob[]): NarJob[] {
    const within = jobs.findIndex(({ sizeBytes }) => (this.#leftBytes -= sizeBytes) < 0);
    return jobs.slice(0, within === -1 ? undefined : within);
  }

  async #add(jobs: readonly NarJob[], whole?: Pick<Receiver, 'placeOf'>): Promise<void> {
    this.#running ??= this.scheduler.run([], this.#signal, { mayGrow: true });
    this.#running.catch(() => undefined); // `end` reports it
    await this.scheduler.add(jobs, whole);
  }

  /** Takes in the present upstreams. New ones come first, so they get NARs that the others are sending. */
  #update(): void {
    if (this.order.update(this.#options.caches())) this.scheduler.chooseAgain();
  }
}
