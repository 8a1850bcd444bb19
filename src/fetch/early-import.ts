import { totalmem } from 'node:os';
import { freeBytesAt } from '../disk/free-bytes.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { copyPaths, type CopyRequest } from '../nix/nix-copy.ts';
import { decodesInParallel } from '../nix/nix-settings.ts';
import type { FileFacts } from '../store/catalogue-entry.ts';
import type { FileStore } from '../store/file-store.ts';
import { ImportFolder } from '../store/import-folder.ts';
import type { PartialNar } from '../store/partial.ts';
import { ArrivedPaths, type Arrived } from './arrived-paths.ts';
import type { Closure } from './closure.ts';
import type { Tell } from './events.ts';
import { importableNow } from './import-order.ts';
import { isLasting, leftMs } from './lasting-download.ts';
import { ImportWorkers } from './import-workers.ts';
import { isDecodable, NarDecoding } from './nar-decoding.ts';

/** Processes of Nix that import at the same time: one more, so that a large NAR does not hold up the others. */
const MAX_COPIES = 2;
/** Time from one start of Nix to the next, in milliseconds: each takes 30 ms of processor time. */
const GATHER_MS = 500;
/** Bytes of NARs for which it starts sooner if it is idle. */
const WORTH_BYTES = 32 * 1024 ** 2;
/** A download that ends sooner is imported at once: one Nix that decodes on all processors is faster than several. */
const LASTING_MS = 1_500;
/** Bounds on the decoded NARs that wait for Nix: a quarter of the memory, between these. */
const MIN_DECODED_BYTES = 256 * 1024 ** 2;
const MAX_DECODED_BYTES = 4 * 1024 ** 3;

export interface EarlyImportOptions extends Pick<CopyRequest, 'to' | 'trustedPublicKeys' | 'checkSignatures'> {
  readonly store: FileStore;
  /** Bytes that are still to be downloaded to the same disk. */
  readonly toDownloadBytes: number;
  /** NARs of this size are decoded before their references have arrived. Default: 0. */
  readonly aheadBytes?: number;
  /** If Nix decodes, nothing is imported if the download ends within this time, in milliseconds. Default: 1,500. */
  readonly lastingMs?: number;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

/**
 * Imports paths while others are still arriving: each as soon as its NAR and its references are there. NARs for older
 * versions of Nix, which decode one after another, are decoded here, on all processors. Each `nix copy` takes all paths
 * that are ready.
 *
 * It only saves time. At the first failure it ends. The import after the download finds the fault and imports the rest.
 */
export class EarlyImport implements AsyncDisposable {
  readonly #options: EarlyImportOptions;
  readonly #paths: ArrivedPaths;
  /** Paths that Nix can take once it has their references. */
  readonly #ready = new Set<Arrived>();
  /** Those that are decoded. */
  readonly #decoded = new Set<Arrived>();
  readonly #workers: ImportWorkers;
  /** True if some NARs can be decoded here, and given to Nix one by one. */
  readonly #mayDecode: boolean;
  readonly #imported = new Map<StorePath, FileFacts>();
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #isPreparing = false;
  #made: ImportFolder | undefined;
  /** Undefined until the import has begun. */
  #decoding: NarDecoding | undefined;
  /** NARs that have begun to arrive, until the import begins. */
  readonly #arriving = new Map<StorePath, { readonly info: NarInfo; readonly partial: PartialNar }>();
  #copies = 0;
  /** While paths gather for the next `nix copy`. */
  #pause: PromiseWithResolvers<void> | undefined;
  readonly #ending = new AbortController();

  /** @param needed paths that the target lacks */
  constructor(closure: Closure, needed: ReadonlySet<StorePath>, options: EarlyImportOptions) {
    this.#options = { ...options, signal: AbortSignal.any([options.signal, this.#stop.signal]) };
    this.#paths = new ArrivedPaths(closure, needed, options.store);
    this.#mayDecode = [...closure.values()].some((info) => needed.has(info.storePath) && isDecodable(info));
    this.#workers = new ImportWorkers(this.#options);
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
    if (this.#ending.signal.aborted) return;
    if (this.#decoding !== undefined) this.#decoding.follow(info, partial);
    else {
      this.#arriving.set(info.storePath, { info, partial });
      this.#run();
    }
  }

  /** Adds paths whose NAR is in the file store. */
  add(infos: Iterable<NarInfo>): void {
    for (const info of infos) this.#paths.add(info);
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
    const paths = Array.from(this.#paths.values(), ({ info }) => info.storePath);
    await this.#decoding?.endOthers(new Set(paths));
    this.#run();
    while (this.#running.size > 0) await Promise.race(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.end();
    await this.#workers[Symbol.asyncDispose]();
    await this.#decoding?.[Symbol.asyncDispose]();
    await this.#made?.[Symbol.asyncDispose]();
  }

  /** Does all that can be done now. */
  #run(): void {
    if (this.#options.signal.aborted) return;
    const decoding = this.#decoding;
    if (decoding === undefined) {
      if (this.#paths.waiting.size === 0 && this.#arriving.size === 0) return;
      if (!this.#isPreparing) void this.#track(this.#prepare());
      this.#isPreparing = true;
      return;
    }
    let waitingBytes = bytesOf(this.#paths.waiting);
    for (let first = this.#paths.first(); first !== undefined; first = this.#paths.first()) {
      if (!decoding.mayBegin(first, waitingBytes)) break;
      waitingBytes -= first.info.narSize;
      this.#begin(first, decoding);
    }
    for (const begun of decoding.decodeAhead(this.#paths.values(), this.#copies > 0)) void this.#track(begun);
    if (this.#isLast) this.#pause?.resolve();
    const inOrder = [...this.#ready].toSorted((a, b) => this.placeOf(a.info) - this.placeOf(b.info));
    for (const arrived of inOrder) {
      if (!this.#workers.isFree || this.#made === undefined) break;
      if (!this.#decoded.has(arrived) || importableNow([arrived], this.#paths.valid).length === 0) continue;
      this.#ready.delete(arrived);
      void this.#track(this.#import(arrived, this.#made));
    }
    // Two processes of Nix must not create the same store.
    const maxCopies = this.#imported.size === 0 ? 1 : MAX_COPIES;
    if (this.#copies >= maxCopies || this.#workers.isOpening) return;
    const isForCopy = (arrived: Arrived): boolean => !this.#workers.isUsable || !this.#decoded.has(arrived);
    const wave = importableNow(inOrder.filter(isForCopy), this.#paths.valid);
    if (wave.length === 0 || !this.#isWorthIt(wave)) return;
    for (const arrived of wave) this.#ready.delete(arrived);
    void this.#track(this.#copy(wave));
    if (this.#pause === undefined && !this.#isLast) void this.#track(this.#letGather());
  }

  /** Returns true if Nix should take these paths now, and not wait for more. */
  #isWorthIt(wave: readonly Arrived[]): boolean {
    if (this.#pause === undefined) return true;
    return this.#copies === 0 && bytesOf(wave) >= WORTH_BYTES;
  }

  /** Lets paths gather for the next `nix copy`. */
  async #letGather(): Promise<void> {
    const pause = (this.#pause = Promise.withResolvers<void>());
    const timer = setTimeout(() => pause.resolve(), GATHER_MS);
    await pause.promise;
    clearTimeout(timer);
    this.#pause = undefined;
  }

  /** True if nothing more gets ready. */
  get #isLast(): boolean {
    return this.#ending.signal.aborted && this.#decoding?.isBusy !== true && this.#paths.waiting.size === 0;
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

  async #prepare(): Promise<void> {
    const { store, signal, toDownloadBytes, aheadBytes, checkSignatures } = this.#options;
    const doesNixDecode = await decodesInParallel({ signal });
    const folder = (this.#made = await ImportFolder.open(store));
    if (doesNixDecode && !(await this.#isLasting())) return;
    // They never accept unsigned paths.
    if (this.#mayDecode && checkSignatures !== false)
      for (const opening of this.#workers.open()) void this.#track(opening);
    const freeBytes = (await freeBytesAt(store.dir)) ?? Infinity;
    const wantedBytes = Math.min(MAX_DECODED_BYTES, Math.max(MIN_DECODED_BYTES, totalmem() / 4));
    const maxBytes = Math.min(wantedBytes, (freeBytes - toDownloadBytes) / 2);
    const hasRoom = maxBytes >= MIN_DECODED_BYTES;
    this.#decoding = new NarDecoding({
      store,
      folder,
      maxBytes: hasRoom ? maxBytes : 0,
      doesNixDecode,
      aheadBytes,
      placeOf: (info) => this.placeOf(info),
      onFree: () => this.#run(),
      signal,
    });
    for (const { info, partial } of this.#arriving.values()) this.#decoding.follow(info, partial);
    this.#arriving.clear();
  }

  /** Waits until it is known whether the download lasts. */
  #isLasting(): Promise<boolean> {
    const { lastingMs = LASTING_MS, signal } = this.#options;
    return isLasting(lastingMs, (passedMs) => this.#leftMs(passedMs), AbortSignal.any([signal, this.#ending.signal]));
  }

  /** Estimates the rest of the download's time from its bytes so far. */
  #leftMs(passedMs: number): number {
    let bytes = 0;
    for (const { file } of this.#paths.values()) bytes += file.sizeBytes;
    for (const { info, partial } of this.#arriving.values()) if (!this.#paths.has(info)) bytes += partial.heldBytes;
    return leftMs(bytes, this.#options.toDownloadBytes - bytes, passedMs);
  }

  #begin(arrived: Arrived, decoding: NarDecoding): void {
    this.#paths.begin(arrived);
    void this.#track(
      decoding.makeReady(arrived).then((isDecoded) => {
        if (isDecoded) this.#decoded.add(arrived);
        this.#ready.add(arrived);
      }),
    );
  }

  /** Imports one decoded NAR. */
  async #import(arrived: Arrived, folder: ImportFolder): Promise<void> {
    const { info } = arrived;
    await this.#workers.add(info, folder.decodedPath(info));
    await this.#note([arrived]);
  }

  async #copy(wave: readonly Arrived[]): Promise<void> {
    const { to, trustedPublicKeys, checkSignatures, signal } = this.#options;
    const folder = this.#made;
    if (folder === undefined) return;
    const infos = wave.map(({ info }) => info);
    this.#copies++;
    try {
      await copyPaths({ from: `file://${folder.dir}`, to, paths: infos, trustedPublicKeys, checkSignatures, signal });
    } finally {
      this.#copies--;
    }
    await this.#note(wave);
  }

  async #note(wave: readonly Arrived[]): Promise<void> {
    const { tell } = this.#options;
    for (const arrived of wave) {
      const { info, file } = arrived;
      this.#paths.noteValid(info);
      this.#imported.set(info.storePath, file);
      this.#decoding?.release(arrived);
      tell({ type: 'path-copied', path: info.storePath });
    }
    this.#run();
    await this.#made?.remove(wave.map(({ info }) => info));
  }
}

/** Returns the sum of the sizes of NARs. */
function bytesOf(paths: Iterable<Arrived>): number {
  let sum = 0;
  for (const { info } of paths) sum += info.narSize;
  return sum;
}
