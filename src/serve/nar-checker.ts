import { setTimeout as sleep } from 'node:timers/promises';
import { isNarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isTrusted, type PublicKey } from '../nix/signature.ts';
import { narTorrent } from '../torrent/canonical.ts';
import { awaited, BackgroundReader } from './background-reader.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import {
  contentsOf,
  entryOf,
  inNixEntry,
  isSameFile,
  type CatalogueEntry,
} from '../store/catalogue/catalogue-entry.ts';
import { narContentsOf } from '../store/hashing/hash-nar.ts';
import { FileStore } from '../store/file-store.ts';
import type { NixNars } from '../store/in-nix/nix-nars.ts';
import { asError, factsOf, type Warn, type Warning } from '../warning.ts';

/** Time until a NAR is tried again that could not be read or was a different one. */
const TRY_AGAIN_MS = 10 * 60_000;
/** Time after a question of Nix in which no NAR is checked that nobody waits for. */
const GIVE_WAY_MS = 1_000;

/** `now`: a peer waits for it. `later`: nothing waits for it. */
type CheckUrgency = 'now' | 'later';

/** A running check. */
interface Checking {
  readonly urgency: CheckUrgency;
  readonly result: Promise<CatalogueEntry | undefined>;
}

export interface NarCheckerOptions {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  /** The NARs in the Nix store of this machine. */
  readonly nixNars: NixNars;
  /** NARs are checked only if one of these keys or a content address vouches for them. */
  readonly keys: readonly PublicKey[];
  readonly onWarning: Warn;
  /** Time for which {@link NarChecker.giveWay} holds back NARs that nobody waits for, in milliseconds. Default: 1,000. */
  readonly giveWayMs?: number | undefined;
}

/**
 * Checks the NARs of a catalogue that were never checked: decompresses each once, in the background. Records in the
 * catalogue the NarHash of its contents, and its pieces if they are unknown. Only then may others get it (see {@link
 * Gate}). Checks requested NARs first: a new store, or one of an earlier version, serves from the first request on.
 */
export class NarChecker implements AsyncDisposable {
  readonly #options: NarCheckerOptions;
  readonly #reader = new BackgroundReader();
  readonly #checking = new Map<StorePath, Checking>();
  /** Entries whose file could not be read, and when (`performance.now`) it may be tried again. */
  readonly #putOff = new Map<StorePath, { readonly entry: CatalogueEntry; readonly untilMs: number }>();
  readonly #told = new Set<string>();
  /** Version of the catalogue that was walked completely. */
  #walked = -1;
  /** Time (`performance.now`) from which on NARs are checked without a request. */
  #freeAtMs = 0;

  constructor(options: NarCheckerOptions) {
    this.#options = options;
  }

  /**
   * Checks the file of an entry, once for all requests at the same time. A check for which nobody waited begins again
   * if somebody asks: on a busy machine it may not end for hours.
   *
   * @param info the store's narinfo of it, whose signature was checked
   * @returns the entry with the result, right or wrong; undefined if the file could not be read
   */
  check(entry: CatalogueEntry, info: NarInfo, urgency: CheckUrgency): Promise<CatalogueEntry | undefined> {
    const { storePath } = entry;
    const running = this.#checking.get(storePath);
    if (running !== undefined && (running.urgency === 'now' || urgency === 'later')) return running.result;
    if (this.#isPutOff(entry)) return Promise.resolve(undefined);
    const result = this.#check(entry, info, urgency).finally(() => {
      if (this.#checking.get(storePath)?.result === result) this.#checking.delete(storePath);
    });
    this.#checking.set(storePath, { urgency, result });
    return result;
  }

  /**
   * Notes that somebody waits for an answer of this process. To start a decompressor stops the whole process for
   * milliseconds, so NARs that nobody waits for are checked later: one a second as long as questions come.
   */
  giveWay(): void {
    this.#freeAtMs = performance.now() + (this.#options.giveWayMs ?? GIVE_WAY_MS);
  }

  /**
   * Checks all NARs that were never checked, one at a time.
   *
   * @throws STORE_UNWRITABLE for a narinfo that cannot be read; the signal's reason
   */
  async checkAll(signal: AbortSignal): Promise<void> {
    const { store, catalogue, keys } = this.#options;
    const { version } = catalogue;
    const hasRetry = this.#forgetPassed();
    if (version === this.#walked && !hasRetry) return;
    for (const { storePath } of catalogue.entries()) {
      signal.throwIfAborted();
      if (this.#toCheck(storePath) === undefined) continue;
      await this.#untilFree(signal);
      const entry = this.#toCheck(storePath); // others may check it meanwhile
      if (entry === undefined) continue;
      const info = await store.readNarInfoOf(storePath);
      if (info?.fileHash !== entry.fileHash || !isTrusted(info, keys)) this.#setOff(entry);
      else await this.check(entry, info, 'later').catch((error: unknown) => this.#unlessClosed(error, signal));
    }
    this.#walked = version;
  }

  #toCheck(path: StorePath): CatalogueEntry | undefined {
    const entry = this.#options.catalogue.byStorePath(path);
    return entry !== undefined && isUnknown(entry) && !this.#isPutOff(entry) ? entry : undefined;
  }

  /** Waits once, so that a machine whose questions never end gets its NARs checked, too. @throws the signal's reason */
  async #untilFree(signal: AbortSignal): Promise<void> {
    const leftMs = this.#freeAtMs - performance.now();
    if (leftMs > 0) await sleep(leftMs, undefined, { signal });
  }

  async close(): Promise<void> {
    await this.#reader.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #check(entry: CatalogueEntry, info: NarInfo, urgency: CheckUrgency): Promise<CatalogueEntry | undefined> {
    const { store, catalogue } = this.#options;
    const { storePath, fileHash, extension, askedBy } = entry;
    if (entry.isInNix === true) return this.#checkInNix(entry, info);
    const path = store.narPath({ url: FileStore.narUrl(fileHash, extension), storePath });
    const contents = entry.narHash === undefined ? narContentsOf(info) : undefined; // which a FileHash decides
    const how = urgency === 'now' ? awaited(info.fileSize ?? 0, info.narSize) : urgency;
    const found = await this.#reader.read(path, contents, how).catch((error: unknown) => {
      if (!isNarswarmError(error, 'NIX_MISSING')) throw error;
      this.#warnOnce({ kind: 'unchecked-contents', error, of: 'store' });
      return undefined;
    });
    if (found === undefined || 'reason' in found || found.fileHash !== fileHash) {
      this.#setOff(entry);
      return undefined;
    }
    const narHash = found.narHash ?? entry.narHash;
    const checked = entryOf(narTorrent({ ...found, extension }), storePath, found.mtimeMs, askedBy, narHash);
    this.#putOff.delete(storePath);
    if (narHash === undefined) this.#setOff(checked); // only Nix can read it: an import may check it
    // If the disk takes no more lines, this process still knows the result.
    await catalogue.add([checked]).catch((error: unknown) => this.#warnOnce({ kind: 'failed', error: asError(error) }));
    if (contentsOf(checked, info) === 'wrong') this.#warnOnce({ kind: 'wrong-contents', path: storePath });
    return checked;
  }

  /** Hashes a path of the Nix store that has changed since it was hashed: Nix has made it again, or merged its links. */
  async #checkInNix(entry: CatalogueEntry, info: NarInfo): Promise<CatalogueEntry | undefined> {
    const { nixNars, catalogue } = this.#options;
    const hashed = await nixNars.hash(entry.storePath, info.narSize);
    if (hashed?.narHash !== info.narHash) {
      // One that is gone may be put there again at any moment, and to look whether it is costs nothing.
      if (nixNars.changedAtMs(entry.storePath) !== undefined) this.#setOff(entry);
      return undefined;
    }
    const checked = inNixEntry(hashed, entry);
    await catalogue.add([checked]).catch((error: unknown) => this.#warnOnce({ kind: 'failed', error: asError(error) }));
    return checked;
  }

  #isPutOff(entry: CatalogueEntry): boolean {
    const off = this.#putOff.get(entry.storePath);
    return off !== undefined && off.untilMs > performance.now() && isSameFile(off.entry, entry);
  }

  #setOff(entry: CatalogueEntry): void {
    this.#putOff.set(entry.storePath, { entry, untilMs: performance.now() + TRY_AGAIN_MS });
  }

  /**
   * Drops the entries that may be tried again. Some have been checked or removed meanwhile.
   *
   * @returns true if there were any
   */
  #forgetPassed(): boolean {
    const now = performance.now();
    const before = this.#putOff.size;
    for (const [path, { untilMs }] of this.#putOff) if (untilMs <= now) this.#putOff.delete(path);
    return this.#putOff.size < before;
  }

  #unlessClosed(error: unknown, signal: AbortSignal): undefined {
    signal.throwIfAborted();
    throw error;
  }

  #warnOnce(warning: Warning): void {
    const key = JSON.stringify(factsOf(warning));
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.#options.onWarning(warning);
  }
}

/** Returns true if reading the file would add facts to the entry. */
function isUnknown(entry: CatalogueEntry): boolean {
  if (entry.isInNix === true) return false;
  return entry.torrent === undefined || (entry.extension !== '' && entry.narHash === undefined);
}
