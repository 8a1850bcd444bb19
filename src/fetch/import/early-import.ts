import type { StorePath } from '../../nix/brands.ts';
import { accessTo } from '../../nix/programs/daemon-trust.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { copyPaths, type CopyRequest } from '../../nix/programs/nix-copy.ts';
import { decodesInParallel } from '../../nix/programs/nix-settings.ts';
import type { FileFacts } from '../../store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../../store/file-store.ts';
import { ImportFolder } from '../../store/import-folder.ts';
import type { PartialNar } from '../../store/partial.ts';
import { ArrivedPaths, type Arrived } from './arrived-paths.ts';
import { ArrivingImports, MAX_ARRIVING } from './arriving-imports.ts';
import type { Closure } from '../walk/closure.ts';
import type { Tell } from '../events.ts';
import { importableNow } from './import-order.ts';
import { ImportWorkers } from './import-workers.ts';
import { isLasting, leftMs } from './lasting-download.ts';

/** Processes of `nix copy` at the same time: one more, so that a large NAR does not hold up the others. */
const MAX_COPIES = 2;
/** Time from one `nix copy` to the next, in milliseconds: each takes 30 ms of processor time to start. */
const GATHER_MS = 500;
/** Bytes of NARs for which it starts sooner, and the most that it takes: older versions decode one NAR after another. */
const WORTH_BYTES = 32 * 1024 ** 2;
/**
 * Uncompressed NARs from which on a Nix that decodes on all processors better imports all at once, if the download ends
 * within {@link LASTING_MS}: a path over a connection takes 2 ms more.
 */
const LARGE_BYTES = 1024 ** 3;
const LASTING_MS = 1_500;
/** Waiting paths from which on such a Nix imports the rest better at once, when all NARs have arrived. */
const MANY_PATHS = 100;

export interface EarlyImportOptions extends Pick<CopyRequest, 'to' | 'trustedPublicKeys' | 'checkSignatures'> {
  readonly store: FileStore;
  /** Bytes that are still to be downloaded. */
  readonly toDownloadBytes: number;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

/**
 * Imports paths while others are still arriving: each as soon as its NAR is there and its references are valid. Nix takes
 * them over connections that stay open. If that is not possible, each `nix copy` takes
 * several paths that are ready.
 *
 * It only saves time. If Nix has not taken the first path, `nix copy` does all. At a later failure it ends. The import after the download finds the fault and imports the rest.
 */
export class EarlyImport implements AsyncDisposable {
  readonly #options: EarlyImportOptions;
  readonly #paths: ArrivedPaths;
  /** Sizes of the uncompressed NARs that the target lacks. */
  #neededBytes = 0;
  readonly #needed: number;
  readonly #imported = new Map<StorePath, FileFacts>();
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #isPreparing = false;
  /** True if one `nix copy` imports many waiting paths faster than they are imported over connections. */
  #leavesMany = false;
  /** Undefined until the import has begun. */
  #folder: ImportFolder | undefined;
  /** Undefined if Nix would not take paths from the folder over them. */
  #workers: ImportWorkers | undefined;
  #arriving: ArrivingImports | undefined;
  /** Large NARs that have begun to arrive, and are not imported yet. */
  readonly #begun = new Map<StorePath, { readonly info: NarInfo; readonly partial: PartialNar }>();
  /** Paths that are imported over connections, besides those whose NARs are arriving. */
  #importing = 0;
  #copies = 0;
  /** While paths gather for the next `nix copy`. */
  #pause: PromiseWithResolvers<void> | undefined;
  readonly #ending = new AbortController();

  /** @param needed paths that the target lacks */
  constructor(closure: Closure, needed: ReadonlySet<StorePath>, options: EarlyImportOptions) {
    this.#options = { ...options, signal: AbortSignal.any([options.signal, this.#stop.signal]) };
    this.#paths = new ArrivedPaths(closure, needed, options.store);
    this.#needed = needed.size;
    for (const { storePath, narSize } of closure.values()) if (needed.has(storePath)) this.#neededBytes += narSize;
  }

  /** Paths that Nix has taken, with the files that their NARs came from. */
  get imported(): ReadonlyMap<StorePath, FileFacts> {
    return this.#imported;
  }

  /** Returns the place of a path in the best order, from 0 for the first to 1. */
  placeOf(info: Pick<NarInfo, 'storePath'>): number {
    return this.#paths.placeOf(info);
  }

  /** Learns that a NAR has begun to arrive. */
  follow(info: NarInfo, partial: PartialNar): void {
    if (partial.isInMemory || this.#ending.signal.aborted) return;
    this.#begun.set(info.storePath, { info, partial });
    this.#run();
  }

  /** Adds paths whose NAR is in the file store. */
  add(infos: Iterable<NarInfo>): void {
    for (const info of infos) {
      const arrived = this.#paths.add(info);
      this.#begun.delete(info.storePath);
      if (arrived !== undefined && this.#arriving?.has(info.storePath) === true) {
        this.#paths.begin(arrived);
        void this.#track(this.#finish(arrived, this.#arriving));
      }
    }
    this.#run();
  }

  /** Call it when all NARs have arrived. It imports the waiting ones at once. */
  noMore(): void {
    this.#ending.abort();
    this.#run();
  }

  /** Waits until nothing more can be imported. */
  async end(): Promise<void> {
    this.noMore();
    await this.#arriving?.endOthers((storePath) => this.#paths.has({ storePath }));
    while (this.#running.size > 0) await Promise.race(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#arriving?.[Symbol.asyncDispose]();
    await this.end();
    await this.#workers?.[Symbol.asyncDispose]();
    await this.#folder?.[Symbol.asyncDispose]();
  }

  /** Does all that can be done now. */
  #run(): void {
    if (this.#options.signal.aborted) return;
    if (this.#folder !== undefined) {
      if (this.#workers?.isUsable === true) this.#runWorkers(this.#folder, this.#workers);
      else this.#runCopies(this.#folder);
    } else if (!this.#isPreparing && (this.#paths.first() !== undefined || this.#begun.size > 0)) {
      this.#isPreparing = true;
      void this.#track(this.#prepare());
    }
  }

  async #prepare(): Promise<void> {
    const { store, to, trustedPublicKeys, checkSignatures, signal } = this.#options;
    const { socket, choosesCaches } = await accessTo(to, { signal });
    const isLarge = this.#neededBytes > LARGE_BYTES;
    // A daemon gets one NAR after another.
    if (socket === undefined && (isLarge || this.#needed > MANY_PATHS))
      this.#leavesMany = await decodesInParallel({ signal });
    if (isLarge && this.#leavesMany && !(await this.#isLasting())) return;
    const folder = await ImportFolder.open(store);
    // They never accept unsigned paths.
    if (checkSignatures !== false && choosesCaches) {
      const workers = new ImportWorkers({ to, socket, trustedPublicKeys, cache: folder.url, signal }, MAX_ARRIVING);
      this.#arriving = await ArrivingImports.open(folder, workers);
      this.#workers = workers;
    }
    this.#folder = folder;
  }

  /** Waits until it is known whether the download lasts. */
  #isLasting(): Promise<boolean> {
    const ended = AbortSignal.any([this.#options.signal, this.#ending.signal]);
    return isLasting(LASTING_MS, (passedMs) => this.#leftMs(passedMs), ended);
  }

  /** Estimates the rest of the download's time from its bytes so far. */
  #leftMs(passedMs: number): number {
    let bytes = 0;
    for (const { file } of this.#paths.values()) bytes += file.sizeBytes;
    for (const { partial } of this.#begun.values()) bytes += partial.heldBytes;
    return leftMs(bytes, this.#options.toDownloadBytes - bytes, passedMs);
  }

  #runWorkers(folder: ImportFolder, workers: ImportWorkers): void {
    if (this.#leavesMany && this.#ending.signal.aborted && this.#paths.waitingCount > MANY_PATHS) return;
    for (;;) {
      const next = this.#importing < workers.atATime ? this.#paths.first() : undefined;
      // NARs that are here go before those that are still arriving.
      const begun = this.#paths.first() === undefined ? this.#firstBegun() : undefined;
      if (next === undefined && begun === undefined) return;
      if (!workers.isFree) {
        const opening = workers.openMore();
        if (opening !== undefined) void this.#track(opening);
        return;
      }
      if (next !== undefined) {
        this.#paths.begin(next);
        void this.#track(this.#import(next, folder, workers));
      } else if (begun !== undefined) {
        this.#begun.delete(begun.info.storePath);
        this.#arriving?.begin(begun.info, begun.partial);
      }
    }
  }

  /** Returns the arriving NAR that Nix should read next. Undefined if there is none, or if Nix may read no more of them. */
  #firstBegun(): { readonly info: NarInfo; readonly partial: PartialNar } | undefined {
    if (this.#arriving?.isFree !== true) return undefined;
    const importable = [...this.#begun.values()].filter(({ info }) => this.#paths.isImportable(info));
    return importable.toSorted((a, b) => this.placeOf(a.info) - this.placeOf(b.info))[0];
  }

  async #finish(arrived: Arrived, arriving: ArrivingImports): Promise<void> {
    const { info, file } = arrived;
    if (await arriving.finish(info, file.fileHash)) await this.#note([arrived]);
    else this.#paths.beginAgain(arrived);
  }

  #runCopies(folder: ImportFolder): void {
    if (this.#ending.signal.aborted) this.#pause?.resolve();
    // Two processes of Nix must not create the same store.
    const maxCopies = this.#imported.size === 0 ? 1 : MAX_COPIES;
    if (this.#copies >= maxCopies) return;
    const wave = firstOf(importableNow(this.#paths.waiting(), this.#paths.valid));
    if (wave.length === 0 || !this.#isWorthIt(wave)) return;
    for (const arrived of wave) this.#paths.begin(arrived);
    void this.#track(this.#copy(wave, folder));
    if (this.#pause === undefined && !this.#ending.signal.aborted) void this.#track(this.#letGather());
  }

  /** Returns true if `nix copy` should take these paths now, and not wait for more. */
  #isWorthIt(wave: readonly Arrived[]): boolean {
    if (this.#pause === undefined) return true;
    return wave.reduce((sum, { info }) => sum + info.narSize, 0) >= WORTH_BYTES;
  }

  /** Lets paths gather for the next `nix copy`. */
  async #letGather(): Promise<void> {
    const pause = (this.#pause = Promise.withResolvers<void>());
    const timer = setTimeout(() => pause.resolve(), GATHER_MS);
    await pause.promise;
    clearTimeout(timer);
    this.#pause = undefined;
  }

  /** Follows some work to its end. A failure ends the whole import. */
  #track(work: Promise<unknown>): Promise<void> {
    const tracked: Promise<void> = work
      .then(() => undefined)
      .catch(() => this.#stop.abort())
      .finally(() => {
        this.#running.delete(tracked);
        this.#run();
      });
    this.#running.add(tracked);
    return tracked;
  }

  async #import(arrived: Arrived, folder: ImportFolder, workers: ImportWorkers): Promise<void> {
    const { info } = arrived;
    this.#importing++;
    try {
      await workers.add(info, folder.add(info));
    } catch (error) {
      if (workers.isUsable) throw error;
      return this.#paths.beginAgain(arrived); // `nix copy` may take it
    } finally {
      this.#importing--;
    }
    return this.#note([arrived]);
  }

  async #copy(wave: readonly Arrived[], folder: ImportFolder): Promise<void> {
    const { to, trustedPublicKeys, checkSignatures, signal } = this.#options;
    const infos = wave.map(({ info }) => info);
    this.#copies++;
    try {
      for (const info of infos) await folder.add(info);
      await copyPaths({ from: folder.url, to, paths: infos, trustedPublicKeys, checkSignatures, signal });
    } finally {
      this.#copies--;
    }
    await this.#note(wave);
  }

  async #note(wave: readonly Arrived[]): Promise<void> {
    for (const { info, file } of wave) {
      this.#paths.noteValid(info);
      this.#imported.set(info.storePath, file);
      this.#options.tell({ type: 'path-copied', path: info.storePath });
    }
    this.#run();
    for (const { info } of wave) await this.#folder?.remove(info);
  }
}

/** Returns the first of some paths, up to {@link WORTH_BYTES}, and at least one. */
function firstOf(wave: readonly Arrived[]): Arrived[] {
  let bytes = 0;
  return wave.filter(({ info }, index) => {
    bytes += info.narSize;
    return index === 0 || bytes <= WORTH_BYTES;
  });
}
