import { EventEmitter, once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isNarswarmError } from '../errors.ts';
import type { FileHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { FileStore } from '../store/file-store.ts';
import { PartialNar } from '../store/partial.ts';
import type { PartialSession } from '../store/session.ts';
import { isSameNar } from '../store/hash-nar.ts';
import { extensionOf } from '../torrent/canonical.ts';
import { hashInThread } from '../torrent/hash-thread.ts';
import type { Network } from '../torrent/network.ts';
import { RateLimit } from '../torrent/rate-limit.ts';
import type { HttpClient } from './http/client.ts';
import type { Upstream } from './http/upstream.ts';
import type { JobObserver, NarJob } from './job.ts';
import { LanePolicy } from './lane-policy.ts';
import { fetchFromPeers } from './peer-lane.ts';
import { inFetchOrder, newTask, reasonsOf, slowest, summary, unavailable, type Task } from './task.ts';
import { fetchFromUpstreams, OtherFile, UpstreamOrder } from './upstream-lane.ts';

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
/** Times that a NAR is begun again after its bytes turned out wrong, or no source had a byte more of it. */
const ATTEMPTS = 4;

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
  readonly #policy: LanePolicy;
  readonly #news = new EventEmitter<{ change: [] }>();
  readonly #partials = new Set<PartialNar>();
  /** By the store path of each job, which stays while its file may change. */
  readonly #failures = new Map<StorePath, unknown>();
  readonly #fetched = new Set<StorePath>();
  /** NAR files that lay in the store at the start: an interrupted run left them, maybe. */
  #present: ReadonlySet<string> = new Set();
  #open = 0;
  /** Files that an upstream has in another compression than the narinfo said, by the FileHash that was asked for. */
  readonly #replaced = new Map<FileHash, Pick<NarInfo, 'url' | 'compression' | 'fileHash' | 'fileSize'>>();

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#limit = options.limit ?? new RateLimit();
    this.#order = new UpstreamOrder(options.upstreams);
    this.#news.setMaxListeners(0);
    this.#policy = new LanePolicy({ hasUpstream: options.upstreams.length > 0, standstillMs: options.standstillMs });
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
    hashInThread(jobs.reduce((sum, job) => sum + job.sizeBytes, 0));
    const stop = new AbortController();
    const linked = AbortSignal.any([signal, stop.signal]);
    for (const job of inFetchOrder(jobs)) this.#queue(newTask(job));
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
    if (this.#failures.size > 0) throw summary([...this.#failures.values()], jobs.length);
  }

  /** True once the NAR of a job lies in the store. */
  hasFetched(job: NarJob): boolean {
    return this.#fetched.has(job.info.storePath);
  }

  /** Why the NAR of a job could not be had, where it was tried. */
  failureOf(job: NarJob): unknown {
    return this.#failures.get(job.info.storePath);
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
        this.#failures.set(task.job.info.storePath, error);
        this.#settle();
      }
    }
  }

  #tellFetched(job: NarJob): void {
    this.#fetched.add(job.info.storePath);
    this.#options.observer.onNar(job);
    this.#settle();
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
        patience: () => this.#policy.patience(),
        handOver: task.handOver.signal,
        signal,
      });
      task.peersTried = true;
      if (outcome === 'given up' && partial.heldBytes === 0) await this.#forget(task); // its buffer would wait for long
      if (outcome === 'complete') await this.#finish(task, partial);
      else if (upstreams.length === 0 && this.#policy.standsStill)
        throw unavailable(job, 'no peer delivers it; try again when one is there, or let caches help');
      else if (this.#isHopeless(task, partial))
        throw unavailable(job, reasonsOf(task.upstreamFailure), task.upstreamFailure);
      else this.#queue(task);
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
      if (error instanceof OtherFile) {
        await this.#replace(task, error.own);
        return;
      }
      if (network === undefined || task.job.torrent === undefined) throw unavailable(task.job, reasonsOf(error), error);
      if (task.upstreamFailure === undefined) observer.onWarning(`${reasonsOf(error)}; trying peers again`);
      this.#policy.onFailedTrial();
      task.upstreamFailure = error;
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
      job.torrent = undefined; // nobody has held its pieces against the file
      this.#tellFetched(job);
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
      // pieces that do not fit the file are the map's mistake: they must not become ours
      if (!(await partial.settle(this.pathOf(task.job)))) task.job.torrent = undefined;
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
    this.#tellFetched(task.job);
  }

  #blame({ lies }: Task, origins: string): void {
    const liars = origins.split(', ');
    for (const { name } of this.#options.upstreams) if (liars.includes(name)) lies.set(name, (lies.get(name) ?? 0) + 1);
  }

  /**
   * Gives torrents to the NARs that wait for an upstream and have none: a hash map was found only now. From here on they
   * wait for peers first.
   */
  async attach(torrentOf: (info: NarInfo) => Promise<NarJob['torrent']>): Promise<void> {
    if (this.#options.network === undefined) return;
    for (const task of this.#forUpstreams.filter(
      ({ job, partial }) => job.torrent === undefined && partial === undefined,
    )) {
      const torrent = await torrentOf(task.job.info);
      const at = this.#forUpstreams.indexOf(task);
      if (torrent === undefined || at === -1) continue; // an upstream has begun it meanwhile
      task.job.torrent = torrent;
      this.#forUpstreams.splice(at, 1);
      this.#queue(task);
    }
  }

  /** The narinfo with the file that was fetched for it, where that is another than it named. */
  asFetched(info: NarInfo): NarInfo {
    const file = info.fileHash === undefined ? undefined : this.#replaced.get(info.fileHash);
    return file === undefined ? info : { ...info, ...file };
  }

  /** Where the NAR of a job lies once it is verified. */
  pathOf(job: NarJob): string {
    return join(this.#options.store.dir, FileStore.narUrl(job.fileHash, job.extension));
  }

  #onBytes(source: 'peers' | 'upstream', origin: string, bytes: number): void {
    this.#policy.onBytes(source, bytes);
    this.#options.observer.onBytes(source, origin, bytes);
  }

  #nextForUpstream(): Task | undefined {
    const waiting = this.#forUpstreams.shift();
    if (waiting !== undefined) return waiting;
    const last = this.#forPeers.findLastIndex((task) => task.upstreamFailure === undefined);
    if (last === -1 || !this.#policy.upstreamMayHelp(this.#anyPeer())) return undefined;
    return this.#forPeers.splice(last, 1)[0];
  }

  /** True where upstreams have failed and the peers have given no more either, time and again. */
  #isHopeless(task: Task, partial: PartialNar): boolean {
    if (task.upstreamFailure === undefined) return false;
    const { heldBytes } = partial;
    task.attempts = heldBytes > task.heldBytes ? 0 : task.attempts + 1;
    task.heldBytes = heldBytes;
    return task.attempts > ATTEMPTS;
  }

  /** Goes on with the file that an upstream has of the same NAR: the signature is over the NAR, not over the file. */
  async #replace(task: Task, own: OtherFile['own']): Promise<void> {
    const { url, compression, fileHash, fileSize } = own;
    this.#replaced.set(task.job.fileHash, { url, compression, fileHash, fileSize });
    await task.partial?.discard();
    await this.#forget(task);
    task.job = {
      ...task.job,
      info: { ...task.job.info, url, compression, fileHash, fileSize },
      fileHash,
      sizeBytes: fileSize,
      extension: extensionOf(compression),
      torrent: undefined,
    };
    this.#queue(task);
  }

  #anyPeer(): boolean {
    return this.#options.network?.discovery.candidates().some((peer) => peer.banned === undefined) ?? false;
  }

  /** Looks four times a second whether idle upstream lanes should take something over. */
  #balance(): void {
    const isIdle = this.#forPeers.length === 0 && this.#forUpstreams.length === 0;
    const slow = isIdle ? slowest(this.#atPeers) : undefined;
    if (slow !== undefined && this.#policy.upstreamMayHelp(this.#anyPeer())) slow.handOver.abort();
    this.#news.emit('change');
  }
}
