import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { PatchList, type KeptPatch } from '../store/patch-list.ts';
import { isFileHash, prefixOf, type FilePrefix } from '../exchange/messages/messages.ts';
import type { OfferedFile } from '../exchange/answers/offer.ts';
import type { FileHash, InfoHash } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import type { LastServed } from '../store/catalogue/last-served.ts';
import type { Seed } from '../swarm/swarm.ts';
import type { SharedNars } from './shared-nars.ts';
import { StoreFile } from './store-file.ts';

/** Time for which the list is not looked at again. Another process may add to it. */
const LOOK_EVERY_MS = 500;

export interface OfferedPatchesOptions {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly shared: Pick<SharedNars, 'judge' | 'stillHolds'>;
  /** Learns when each patch was last given. */
  readonly served: Pick<LastServed, 'note'>;
}

/**
 * The patches that others may get: those whose NAR is shared ({@link SharedNars}). This machine has made them, or used
 * them, so each gives the signed NAR.
 */
export class OfferedPatches {
  readonly #options: OfferedPatchesOptions;
  readonly #list: PatchList;
  #byPrefix = new Map<FilePrefix, KeptPatch>();
  /** Patches whose NAR was found to be shared, and the version of the hash maps that this rests on. */
  readonly #passed = new Map<KeptPatch, { readonly mapsVersion?: number | undefined }>();
  readonly #checking = new Set<KeptPatch>();
  #lookedAtMs = -Infinity;
  /** Called with a patch that members may now get. */
  onNews: (prefix: FilePrefix) => void = () => undefined;

  constructor(options: OfferedPatchesOptions) {
    this.#options = options;
    this.#list = new PatchList(options.store);
    this.#index();
  }

  /** Reads the list if it has changed, and reports its new patches. */
  look(): void {
    if (performance.now() - this.#lookedAtMs < LOOK_EVERY_MS) return;
    this.#lookedAtMs = performance.now();
    if (!this.#list.refresh()) return;
    this.#passed.clear();
    const before = this.#byPrefix;
    this.#index();
    for (const [prefix, patch] of this.#byPrefix) if (!before.has(prefix)) this.#checkSoon(prefix, patch);
  }

  /** Returns true if members may get a patch. If that must be found out first, `onNews` reports it later. */
  holds(prefix: FilePrefix): boolean {
    this.look();
    const patch = this.#byPrefix.get(prefix);
    if (patch === undefined) return false;
    if (this.#hasPassed(patch)) return this.#list.isHere(patch);
    this.#checkSoon(prefix, patch);
    return false;
  }

  /** Opens a patch. Undefined if it may not be given. */
  async open(file: FileHash | FilePrefix): Promise<OfferedFile | undefined> {
    this.look();
    const prefix = isFileHash(file) ? prefixOf(file) : file;
    const patch = this.#byPrefix.get(prefix);
    if (patch === undefined || (isFileHash(file) && patch.torrent.fileHash !== file)) return undefined;
    if (!(await this.#isShared(patch))) return undefined;
    try {
      const { fileHash, sizeBytes } = patch.torrent;
      const path = this.#list.pathOf(patch);
      const opened = StoreFile.open(path, { prefix, sizeBytes });
      if (opened !== undefined) this.#options.served.note(basename(path), fileHash);
      return opened;
    } catch {
      return undefined; // the file is gone, or cannot be read
    }
  }

  /** Yields the infohashes of all patches, also of those that may not be given. */
  *infoHashes(): Generator<InfoHash> {
    for (const { torrent } of this.#list.all()) yield torrent.infoHash;
  }

  /** Returns the patch of an infohash. Undefined if it may not be given. */
  async seed(infoHash: InfoHash): Promise<Seed | undefined> {
    this.look();
    const patch = this.#list.byInfoHash(infoHash);
    if (patch === undefined || !this.#list.isHere(patch) || !(await this.#isShared(patch))) return undefined;
    const { torrent } = patch;
    return { torrent, files: [{ path: this.#list.pathOf(patch), sizeBytes: torrent.sizeBytes }] };
  }

  #index(): void {
    this.#byPrefix = new Map(Array.from(this.#list.all(), (patch) => [prefixOf(patch.torrent.fileHash), patch]));
  }

  #hasPassed(patch: KeptPatch): boolean {
    const passed = this.#passed.get(patch);
    return passed !== undefined && this.#options.shared.stillHolds(passed) && this.#isPathHere(patch);
  }

  #isPathHere({ storePath }: KeptPatch): boolean {
    const path = this.#options.store.narInfoPath(storeHashOf(storePath));
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  }

  #checkSoon(prefix: FilePrefix, patch: KeptPatch): void {
    if (this.#checking.has(patch)) return;
    this.#checking.add(patch);
    void this.#isShared(patch)
      .then((isShared) => isShared && this.#list.isHere(patch) && this.onNews(prefix))
      .finally(() => this.#checking.delete(patch));
  }

  async #isShared(patch: KeptPatch): Promise<boolean> {
    if (this.#hasPassed(patch)) return true;
    const { store, catalogue, shared } = this.#options;
    const info = await store.readNarInfo(storeHashOf(patch.storePath)).catch(() => undefined);
    if (info?.storePath !== patch.storePath || info.narHash !== patch.narHash) return false;
    const verdict = await shared.judge(info, catalogue.byStorePath(info.storePath)?.askedBy);
    if (verdict.isShared) this.#passed.set(patch, { mapsVersion: verdict.mapsVersion });
    return verdict.isShared;
  }
}
