import { asError } from '../warning.ts';
import type { Upstream } from '../http/upstream.ts';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { NarswarmError } from '../errors.ts';
import { claimClosure } from '../fetch/plan/claim-closure.ts';
import type { Closure } from '../fetch/walk/closure.ts';
import { fetchNars, type FetchNarsContext } from '../fetch/download/fetch-nars.ts';
import { placesOf } from '../fetch/import/import-order.ts';
import type { NarJob } from '../fetch/plan/job.ts';
import { HurriedNars } from '../fetch/download/hurried-nars.ts';
import { namedFile } from '../fetch/plan/named-file.ts';
import { planFetch, type Plan } from '../fetch/plan/plan.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import { PartialSession } from '../store/session.ts';
import { Arrival } from './arrival.ts';

/**
 * Time without a byte of any NAR after which no client waits for one: Nix has other caches. It is the time that Nix gives
 * a connection by default, and longer than any hedge of a fetch.
 */
const STILL_MS = 15_000;
/** Batches that are fetched at the same time. A NAR that a client waits for does not wait for one of them to end. */
const MOST_BATCHES = 4;

type OfBatch = 'session' | 'upstreams' | 'order' | 'torrentsLate' | 'placeOf' | 'hurried' | 'onBegun' | 'onFetched';

/** The means of a fetch, without those that each batch has of its own. */
export interface ArrivalsContext extends Omit<FetchNarsContext, OfBatch> {
  readonly catalogue: () => Promise<Catalogue>;
  /** Protects a NAR that has arrived from the garbage collector until its narinfo is written. */
  readonly claimant: PartialSession;
  /** Returns the present caches and their order. */
  readonly caches: () => Pick<FetchNarsContext, 'upstreams' | 'order'>;
  /** Gives the jobs of a plan their torrents. Returns a promise if that takes too long, as in a fetch. */
  readonly attach: (plan: Plan) => Promise<FetchNarsContext['torrentsLate']>;
  /** Time without a byte of any NAR after which no client waits for one, in milliseconds. Default: 15,000. */
  readonly stillMs?: number | undefined;
  /** Called when a NAR begins to arrive. */
  readonly onArriving: (arrival: Arrival) => void;
  /** Called with each file that has come from somebody else. */
  readonly onCame: (file: FileHash) => void;
  /** Called with paths whose NAR is in the store and right, with the job if it was just fetched. */
  readonly onHere: (infos: readonly NarInfo[], job?: NarJob) => void;
  /** Called with each path whose NAR no source could give. */
  readonly onFailed: (info: NarInfo) => void;
}

/** Fetches NARs in batches, each NAR once, however many ask for it. */
export class Arrivals {
  readonly #context: ArrivalsContext;
  readonly #arrivals = new Map<FileHash, Arrival>();
  #waiting = new Map<StoreHash, NarInfo>();
  readonly #running = new Set<Promise<void>>();
  readonly #hurried = new HurriedNars();
  #isUrgent = false;
  #isPlanned = false;
  /** Time for which no source has sent a byte. */
  #silentMs = 0;

  constructor(context: ArrivalsContext) {
    this.#context = context;
  }

  /** Returns a NAR that is on its way. */
  get(file: FileHash): Arrival | undefined {
    return this.#arrivals.get(file);
  }

  /** Number of NARs on their way. */
  get size(): number {
    return this.#arrivals.size;
  }

  /** The NARs of which bytes may come now. */
  *begun(): Iterable<Arrival> {
    for (const arrival of this.#arrivals.values())
      if (arrival.partial !== undefined && !arrival.hasEnded) yield arrival;
  }

  /** True while a client waits for one of them or receives it. */
  get hasReaders(): boolean {
    for (const { readers } of this.#arrivals.values()) if (!readers.isEmpty) return true;
    return false;
  }

  /**
   * Fetches the NARs of some narinfos that are not on their way. Narinfos that name no file are left out.
   *
   * @param options.isUrgent true if a client waits for them
   */
  want(infos: Iterable<NarInfo>, { isUrgent = false }: { readonly isUrgent?: boolean } = {}): void {
    for (const info of infos) {
      const file = namedFile(info);
      if (file === undefined || this.#arrivals.has(file.fileHash)) continue;
      if (this.#arrivals.size === 0) this.#silentMs = 0;
      this.#arrivals.set(file.fileHash, new Arrival(info, file, () => this.#areStill()));
      this.#waiting.set(storeHashOf(info.storePath), info);
    }
    if (this.#waiting.size === 0) return;
    this.#isUrgent ||= isUrgent;
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      this.#begin();
    });
  }

  /** Notes that a source has sent bytes. */
  noteBytes(): void {
    this.#silentMs = 0;
  }

  /**
   * Notes that time has passed, and lets clients of NARs that are still go. The caller measures it in short steps, so that a
   * process that was stopped for a while does not take the sources for silent.
   */
  notePassed(durationMs: number): void {
    this.#silentMs += durationMs;
    for (const arrival of this.#arrivals.values()) if (arrival.isStill) arrival.wake();
  }

  /** Fetches a NAR that is on its way before all others, since a client waits for it. */
  hurry(file: FileHash): void {
    if (this.#arrivals.has(file)) this.#hurried.add(file);
  }

  /** Resolves once all batches have ended. */
  async ended(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** Without a cache to ask here, Nix has none either, as far as is known: it may as well wait for peers. */
  #areStill(): boolean {
    const { stillMs = STILL_MS, caches } = this.#context;
    return this.#silentMs >= stillMs && caches().upstreams.length > 0;
  }

  #begin(): void {
    const isAborted = this.#context.signal.aborted;
    if (this.#waiting.size === 0 || (this.#running.size >= MOST_BATCHES && !this.#isUrgent && !isAborted)) return;
    const closure = this.#waiting;
    this.#waiting = new Map();
    this.#isUrgent = false;
    const batch = this.#fetch(closure)
      .catch((error: unknown) => this.#end(closure, asError(error)))
      .finally(() => {
        this.#running.delete(batch);
        this.#begin();
      });
    this.#running.add(batch);
  }

  async #fetch(closure: Closure): Promise<void> {
    const { store, catalogue, claimant, caches, attach, candidates, signal, onArriving, onHere } = this.#context;
    signal.throwIfAborted();
    await using session = await PartialSession.open(store);
    const claimed = await claimClosure(closure, { ...this.#context, session: claimant });
    const cacheOf = (info: NarInfo): Upstream | undefined => candidates.cacheOf(info);
    const plan = await planFetch(claimed, { store, catalogue: await catalogue(), needed: undefined, cacheOf, signal });
    for (const info of plan.inStore) this.#complete(info);
    onHere(plan.inStore);
    const torrentsLate = await attach(plan);
    const places = placesOf(closure);
    const fetched = await fetchNars(plan, closure, {
      ...this.#context,
      ...caches(),
      session,
      torrentsLate,
      placeOf: ({ info }) => places.get(storeHashOf(info.storePath)) ?? 1,
      hurried: this.#hurried,
      onBegun: ({ fileHash }, partial) => {
        const arrival = fileHash && this.#arrivals.get(fileHash);
        if (arrival === undefined) return;
        arrival.begin(partial);
        onArriving(arrival);
      },
      onFetched: (infos) => {
        for (const info of infos) {
          const file = namedFile(info);
          if (file !== undefined) this.#context.onCame(file.fileHash);
          this.#complete(info);
        }
      },
    });
    const jobs = new Map(fetched.jobs.flatMap((job) => job.storePaths.map((path) => [path, job] as const)));
    for (const info of fetched.closure.values()) {
      if (fetched.failures.has(info.storePath)) continue;
      this.#complete(info); // a disputed file counts from now on
      onHere([info], jobs.get(info.storePath));
    }
    for (const [path, failure] of fetched.failures) {
      const info = closure.get(storeHashOf(path));
      if (info !== undefined) this.#end(new Map([[storeHashOf(path), info]]), asError(failure));
    }
    this.#end(closure, notHere);
  }

  /** Notes that the NAR of a narinfo is in the store. */
  #complete(info: NarInfo): void {
    const file = namedFile(info);
    if (file === undefined) return;
    this.#hurried.delete(file.fileHash);
    const url = FileStore.narUrl(file.fileHash, file.extension);
    this.#arrivals.get(file.fileHash)?.complete(this.#context.store.narPath({ ...info, url }));
  }

  /** Ends the arrivals of a batch: those that are not in the store have failed. */
  #end(closure: Closure, failure: Error): void {
    for (const info of closure.values()) {
      const file = namedFile(info);
      const arrival = file && this.#arrivals.get(file.fileHash);
      if (arrival === undefined || file === undefined) continue;
      if (!arrival.hasEnded) this.#context.onFailed(info);
      arrival.fail(failure);
      this.#arrivals.delete(file.fileHash);
      this.#hurried.delete(file.fileHash);
    }
  }
}

const notHere = new NarswarmError('NAR_UNAVAILABLE', 'its NAR is in another file than its narinfo named');
