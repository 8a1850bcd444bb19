import { readdir, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isNarswarmError, type NarswarmError } from '../errors.ts';
import type { FileHash } from '../nix/brands.ts';
import { markedCompression, MAGIC_BYTES } from '../nix/compression.ts';
import type { FileDescription, NarInfo } from '../nix/narinfo.ts';
import { FileStore } from '../store/file-store.ts';
import { isSameNar } from '../store/hash-nar.ts';
import { judgeFile } from '../store/judge-file.ts';
import { PartialNar, type Origin } from '../store/partial.ts';
import type { PartialSession } from '../store/session.ts';
import { storeError } from '../disk/store-error.ts';
import { extensionOf } from '../torrent/canonical.ts';
import type { Network } from '../swarm/network.ts';
import { RateLimit, type DirectionLimit } from '../bytes/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { FetchEvent, Tell } from './events.ts';
import type { NarJob } from './job.ts';
import { namedFile } from './named-file.ts';
import type { LanePolicy } from './lane-policy.ts';
import { fetchFromPeers } from './peer-lane.ts';
import { reasonsOf, unavailable, type Task } from './task.ts';
import { fetchFromUpstreams, OtherFile } from './upstream-lane.ts';
import { UpstreamOrder } from './upstream-order.ts';
import { failuresOf } from '../failure.ts';

/** Sources and target of the NARs. */
export interface LaneWorkOptions {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  /** Empty: everything must come from peers. */
  readonly upstreams: readonly Upstream[];
  /** The order of these upstreams, which lasts longer than one scheduler. Default: a new one. */
  readonly order?: UpstreamOrder | undefined;
  readonly limit?: DirectionLimit | undefined;
  readonly tell: Tell;
}

/** The facts that work on tasks needs, and the events that it reports. */
export interface LaneWorkPeers {
  /** Returns true if another source than the upstreams may have the NAR of a task. */
  readonly mayPeersHave: (task: Task) => boolean;
  /** Called with the senders if a NAR has other bytes than named. */
  readonly onWrong: (task: Task, origins: readonly Origin[]) => void;
}

/** `fetched`: the NAR is in the store. `again`: queue the task once more. */
export type WorkOutcome = 'fetched' | 'again';

/** Limit on attempts for a NAR after wrong bytes, or when no source had more of it. */
const ATTEMPTS = 4;

/**
 * The work of a lane on one task. Opens its partial file, lets peers or upstreams fill it, and settles it into the
 * store. If that fails, records which source is to blame and what the next attempt must do differently.
 */
export class LaneWork {
  readonly #options: LaneWorkOptions;
  readonly #policy: LanePolicy;
  readonly #peers: LaneWorkPeers;
  readonly #limit: DirectionLimit;
  readonly #order: UpstreamOrder;
  readonly #atForeigners = new Set<Task>();
  readonly #atUpstreams = new Set<Task>();
  readonly #partials = new Set<PartialNar>();
  readonly #begun = new Set<FileHash>();
  /** NAR files that were in the store at the start. An interrupted run may have left them. */
  #present: ReadonlySet<string> = new Set();
  /** Files that an upstream has in another compression than the narinfo says, by the requested FileHash. */
  readonly #replaced = new Map<FileHash, Pick<NarInfo, 'url' | 'compression' | 'fileHash' | 'fileSize'>>();

  constructor(options: LaneWorkOptions, policy: LanePolicy, peers: LaneWorkPeers) {
    this.#options = options;
    this.#peers = peers;
    this.#policy = policy;
    this.#limit = options.limit ?? new RateLimit();
    this.#order = options.order ?? new UpstreamOrder(options.upstreams);
  }

  /** Lists the files in the store before the first task. */
  async begin(): Promise<void> {
    this.#present = new Set(await readdir(join(this.#options.store.dir, 'nar')).catch(() => []));
  }

  /** Closes the partial files of unsettled tasks. */
  async close(): Promise<void> {
    for (const partial of this.#partials) await partial.close();
  }

  /** Tasks that clients outside our groups, or upstreams, are sending. */
  get atForeigners(): ReadonlySet<Task> {
    return this.#atForeigners;
  }

  /** True if no upstream answers. */
  get areUpstreamsUnreachable(): boolean {
    return this.#order.areUnreachable;
  }

  get atUpstreams(): ReadonlySet<Task> {
    return this.#atUpstreams;
  }

  /**
   * Fetches the missing part of a NAR from clients outside our groups.
   *
   * @throws NAR_UNAVAILABLE if there is no more hope; HASH_MISMATCH; storage failures; the signal's reason
   */
  async byForeigners(task: Task, signal: AbortSignal): Promise<WorkOutcome> {
    const { job } = task;
    const { network, upstreams } = this.#options;
    if (network === undefined || job.torrent === undefined) throw unavailable(job, 'no hash map names a torrent of it');
    const partial = await this.open(task);
    if (partial === undefined) return 'fetched';
    task.isOfMembers = false;
    this.#atForeigners.add(task);
    try {
      const outcome = await fetchFromPeers({ ...job, torrent: job.torrent }, partial, {
        network,
        tell: (event) => this.tell(event),
        patience: () => this.#policy.patience(),
        onVerified: () => this.#policy.onVerified(),
        onLie: () => this.#policy.onLie(),
        handOver: task.handOver.signal,
        signal,
      });
      // If there is no other source, a peer that lacked the NAR may have it by now.
      task.peersTried = upstreams.length > 0 && task.upstreamFailure === undefined;
      if (outcome === 'given up' && partial.heldBytes === 0) await this.forget(task); // frees its buffer
      if (outcome === 'complete') return await this.finish(task, signal);
      if (upstreams.length === 0 && this.#policy.standsStill) throw this.unavailableAtPeers(task);
      if (this.#isHopeless(task, partial))
        throw unavailable(job, reasonsOf(task.upstreamFailure), task.upstreamFailure);
      return 'again';
    } finally {
      this.#atForeigners.delete(task);
    }
  }

  /** Fetches the missing part of a NAR from upstreams. @throws as {@link byForeigners} */
  async byUpstreams(task: Task, signal: AbortSignal): Promise<WorkOutcome> {
    const partial = await this.open(task);
    if (partial === undefined) return 'fetched';
    const { http, network } = this.#options;
    task.isOfMembers = false;
    if (this.#atUpstreams.size === 0) this.#policy.onUpstreamAsked();
    this.#atUpstreams.add(task);
    try {
      await fetchFromUpstreams(task.job, partial, {
        upstreams: this.#upstreamsFor(task),
        order: this.#order,
        http,
        limit: this.#limit,
        tried: task.files,
        isLineSilent: () => this.#policy.isLineSilent,
        mayRace: task.lies.size === 0,
        peersMayHelp: task.upstreamFailure === undefined && this.#peers.mayPeersHave(task),
        tell: (event) => this.tell(event),
        signal: AbortSignal.any([signal, task.handOver.signal]),
      });
    } catch (error) {
      if (task.handOver.signal.aborted && !signal.aborted) return 'again';
      if (signal.aborted || isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw error;
      if (error instanceof OtherFile) {
        await this.#replace(task, error.own);
        return 'again';
      }
      if (network === undefined) throw unavailable(task.job, reasonsOf(error), error);
      if (task.upstreamFailure === undefined)
        this.tell({ type: 'warning', warning: { kind: 'peers-again', failures: failuresOf(error) } });
      this.#policy.onFailedTrial();
      task.upstreamFailure = error;
      task.peersTried = false;
      return 'again';
    } finally {
      this.#atUpstreams.delete(task);
    }
    return await this.finish(task, signal);
  }

  /** Makes the error of a NAR that no peer delivers, if no other source can be asked. */
  unavailableAtPeers({ job }: Task): NarswarmError {
    return unavailable(job, 'no peer delivers it: try again when a peer has it, or name a cache with --from');
  }

  /** Closes the partial file of a task. The next attempt opens it again. */
  async forget(task: Task): Promise<void> {
    if (task.partial === undefined) return;
    await task.partial.close();
    this.#partials.delete(task.partial);
    task.partial = undefined;
  }

  /** Returns the narinfo with the fetched file, if it differs from the named one. */
  asFetched(info: NarInfo): NarInfo {
    const file = info.fileHash === undefined ? undefined : this.#replaced.get(info.fileHash);
    return file === undefined ? info : { ...info, ...file };
  }

  /** Returns the place of a job's NAR once it is verified. */
  pathOf(job: NarJob): string {
    return join(this.#options.store.dir, FileStore.narUrl(job.fileHash, job.extension));
  }

  /** Returns true if the store had a file of that name, or a part from an earlier run. */
  hasTraces({ job }: Task): boolean {
    const { session } = this.#options;
    return this.#present.has(basename(this.pathOf(job))) || session.leftovers.has(session.path(job.fileHash));
  }

  /** Opens the partial file. Returns undefined if the NAR is already there. */
  async open(task: Task): Promise<PartialNar | undefined> {
    if (task.partial !== undefined) return task.partial;
    const { job } = task;
    const target = this.pathOf(job);
    if (this.#present.has(basename(target)) && (await isSameNar(target, job))) {
      job.torrent = undefined; // the file was not checked against its pieces
      task.isOfMembers = false;
      return undefined;
    }
    const { session } = this.#options;
    task.partial = await PartialNar.open(session.path(job.fileHash), job, session.leftovers);
    this.#partials.add(task.partial);
    if (task.partial.heldBytes > 0) task.isOfMembers = false; // an earlier run may have got them from any source
    if (!this.#begun.has(job.fileHash)) this.tell({ type: 'nar-kept', bytes: task.partial.heldBytes });
    this.#begun.add(job.fileHash);
    return task.partial;
  }

  /**
   * Settles a complete NAR into the store.
   *
   * @throws HASH_MISMATCH; storage failures; the signal's reason
   */
  async finish(task: Task, signal: AbortSignal): Promise<WorkOutcome> {
    const { partial } = task;
    if (partial === undefined) return 'again';
    const judge = async (path: string, fileHash: FileHash): Promise<string | undefined> => {
      const { info, sizeBytes: fileSize } = task.job;
      const own = await judgeFile({ path, fileHash, fileSize }, info, signal);
      if (own === undefined) return undefined;
      this.#become(task, own);
      return this.pathOf(task.job);
    };
    try {
      await partial.drain();
      const head = partial.missing().length === 0 ? await partial.head(MAGIC_BYTES) : undefined;
      // Pieces that do not match the file are the hash map's mistake and must not be passed on.
      if (!(await partial.settle(this.pathOf(task.job), judge))) task.job.torrent = undefined;
      if (head !== undefined) await this.#relabel(task, head);
    } catch (error) {
      if (!isNarswarmError(error, 'HASH_MISMATCH') || task.attempts++ >= ATTEMPTS) throw error;
      const { origins = [] } = error.facts;
      this.#blame(task, origins);
      this.#peers.onWrong(task, origins);
      if (this.#options.network === undefined && this.#order.of(task.lies).length === 0) throw error;
      this.tell({ type: 'warning', warning: { kind: 'fetched-again', error, path: task.job.info.storePath } });
      if (error.facts.mapLied === true) {
        task.job.torrent = undefined;
        await partial.discard();
        await this.forget(task);
        if (this.#options.upstreams.length === 0) throw error;
      }
      return 'again';
    }
    await this.forget(task);
    return 'fetched';
  }

  #upstreamsFor({ job: { preferred }, lies }: Task): Upstream[] {
    const ordered = this.#order.of(lies);
    if (preferred === undefined || this.#order.isLiar(preferred)) return ordered;
    return ordered.toSorted((a, b) => +(b === preferred) - +(a === preferred));
  }

  #blame({ lies }: Task, liars: readonly Origin[]): void {
    for (const upstream of this.#options.upstreams) {
      const { name } = upstream;
      if (!liars.includes(name)) continue;
      lies.set(name, (lies.get(name) ?? 0) + 1);
      if (liars.length === 1) this.#order.noteLie(upstream);
    }
  }

  /** Returns true if upstreams have failed and peers have brought nothing more, several times. */
  #isHopeless(task: Task, partial: PartialNar): boolean {
    if (task.upstreamFailure === undefined) return false;
    const { heldBytes } = partial;
    task.attempts = heldBytes > task.heldBytes ? 0 : task.attempts + 1;
    task.heldBytes = heldBytes;
    return task.attempts > ATTEMPTS;
  }

  /** Continues with the upstream's file of the same NAR. The signature covers the NAR, not the file. */
  async #replace(task: Task, own: OtherFile['own']): Promise<void> {
    task.files.add(own.fileHash);
    await task.partial?.discard();
    await this.forget(task);
    this.#become(task, own);
  }

  /** Names a file by its actual compression if the narinfo named another one. Not every Nix looks at the file. */
  async #relabel(task: Task, head: Uint8Array): Promise<void> {
    const { info, fileHash, sizeBytes } = task.job;
    const compression = markedCompression(info.compression, head);
    if (compression === undefined || compression === info.compression) return;
    const path = this.pathOf(task.job);
    task.job.torrent = undefined; // the torrent names another file
    const url = FileStore.narUrl(fileHash, extensionOf(compression));
    this.#become(task, { url, compression, fileHash, fileSize: sizeBytes });
    const target = this.pathOf(task.job);
    await rename(path, target).catch((error: unknown) => Promise.reject(storeError(error, target)));
  }

  /** Records that the NAR of a task is in another file than its narinfo named. */
  #become(task: Task, { url, compression, fileHash, fileSize }: FileDescription): void {
    const description = { url, compression, fileHash, fileSize } as OtherFile['own'];
    const info = { ...task.job.info, ...description };
    const file = namedFile(info);
    if (file === undefined) throw unavailable(task.job, `${compression} is not a known compression`);
    const [asked = task.job.fileHash] = task.files;
    this.#replaced.set(asked, description);
    task.job = { ...task.job, ...file, info, torrent: undefined };
  }

  /** Reports an event, and tells the policy about received bytes. */
  tell(event: FetchEvent): void {
    if (event.type === 'nar-bytes') this.#policy.onBytes(event.source, event.bytes);
    this.#options.tell(event);
  }
}
