import { remove } from '../disk/remove.ts';
import { withExtra, type NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { Catalogue } from '../store/catalogue.ts';
import { entryOf, type CatalogueEntry } from '../store/catalogue-entry.ts';
import { narNameOf } from '../store/collect/store-graph.ts';
import type { ExportFolder, FolderNar } from '../store/export-folder.ts';
import type { FileStore } from '../store/file-store.ts';
import { forgetServed } from '../store/last-served.ts';
import { COMMIT_BYTES, COMMIT_NARS } from '../store/pending-exports.ts';
import { Turn } from '../store/turn.ts';
import { NarUsers } from './nar-users.ts';

/** A NAR that was compressed again. */
export interface Compressed {
  /** The new file, in the folder. */
  readonly nar: FolderNar;
  /** The narinfos whose NAR it is, with the names of their old files. */
  readonly infos: readonly NarInfo[];
  readonly narSize: number;
  /** Bytes of the old files, by their names. */
  readonly files: ReadonlyMap<string, number>;
}

/**
 * Replaces NAR files of a store by others with the same contents. A batch at a time, so that the disk holds few NARs twice:
 *
 * 1. puts the new files into their places, and waits until they are on the disk
 * 2. rewrites the narinfos
 * 3. waits until these are on the disk, and removes the old files
 *
 * So whenever this ends, each narinfo has its NAR. An old file stays if another narinfo names it, or if another process has
 * claimed its path: a fetch may write the narinfo that it has read before. The garbage collector removes it later.
 */
export class ReplacedNars {
  readonly #options: ReplacedOptions;
  readonly #users: NarUsers;
  readonly #sums = { nars: 0, fileBytes: 0, bytes: 0, narBytes: 0 };
  #pending: Compressed[] = [];
  #pendingBytes = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(options: ReplacedOptions) {
    this.#options = options;
    this.#users = new NarUsers(options.store);
  }

  /** The NARs that were replaced so far: their number, the bytes of their old and new files, and their NarSizes. */
  get sums(): { readonly nars: number; readonly fileBytes: number; readonly bytes: number; readonly narBytes: number } {
    return this.#sums;
  }

  /** Takes a NAR. From time to time, replaces those that it has. */
  async take(compressed: Compressed): Promise<void> {
    this.#pending.push(compressed);
    this.#pendingBytes += compressed.nar.torrent.sizeBytes;
    if (this.#pendingBytes >= COMMIT_BYTES || this.#pending.length >= COMMIT_NARS) await this.commit();
  }

  /** Replaces all NARs that it has. One call after another. @throws STORE_FULL, STORE_UNWRITABLE; the signal's reason */
  commit(): Promise<void> {
    this.#last = this.#last.then(() => this.#commit());
    return this.#last;
  }

  async #commit(): Promise<void> {
    const batch = this.#pending;
    [this.#pending, this.#pendingBytes] = [[], 0];
    if (batch.length === 0) return;
    const { store, folder, catalogue, compression } = this.#options;
    const placed: (Compressed & { readonly url: string; readonly mtimeMs: number })[] = [];
    for (const one of batch) {
      const [info] = one.infos;
      if (info !== undefined) placed.push({ ...one, ...(await folder.placeAndKeep(one.nar, info.storePath)) });
    }
    const narInfos = await store.sync();
    const entries: CatalogueEntry[] = [];
    const old: NarInfo[] = [];
    for (const { nar, infos, url, mtimeMs, narSize, files } of placed) {
      const { torrent } = nar;
      let isUsed = false;
      for (const info of infos) {
        const { storePath, narHash } = info;
        const now = await store.readNarInfoOf(storePath); // with the signatures that it got meanwhile
        if (now?.narHash !== narHash || now.url !== info.url) continue;
        const bare = withExtra(withExtra(now, 'InfoHash', undefined), 'Pieces', undefined);
        const { fileHash, sizeBytes: fileSize } = torrent;
        await narInfos.write({ ...bare, url, compression, fileHash, fileSize });
        const askedBy = catalogue.byStorePath(storePath)?.askedBy ?? 'publish';
        entries.push(entryOf(torrent, storePath, mtimeMs, askedBy, narHash));
        old.push(now);
        isUsed = true;
      }
      if (!isUsed) continue;
      this.#sums.nars++;
      this.#sums.bytes += torrent.sizeBytes;
      this.#sums.narBytes += narSize;
      for (const bytes of files.values()) this.#sums.fileBytes += bytes;
    }
    await store.sync();
    await this.#removeFiles(old);
    await catalogue.add(entries);
    for (const { nar } of batch) await folder.drop(nar);
  }

  /** Removes the old files of narinfos, as a garbage collector does: announces itself first, then reads the claims. */
  async #removeFiles(old: readonly NarInfo[]): Promise<void> {
    const { store, folder, signal } = this.#options;
    await using _ = await Turn.wait(store, 'collecting', { signal });
    const claimed = new Set<string | undefined>();
    for await (const { storeHash, narName } of folder.claimsOfOthers()) claimed.add(storeHash).add(narName);
    await this.#users.refresh(old);
    for (const info of old) {
      const name = narNameOf(info.url);
      if (claimed.has(storeHashOf(info.storePath)) || claimed.has(name) || this.#users.has(info.url)) continue;
      await remove(store.narPath(info));
      await forgetServed(store, name);
    }
  }
}

interface ReplacedOptions {
  readonly store: FileStore;
  readonly folder: Pick<ExportFolder, 'placeAndKeep' | 'drop' | 'claimsOfOthers'>;
  readonly catalogue: Pick<Catalogue, 'add' | 'byStorePath'>;
  /** `Compression` of the new files. */
  readonly compression: string;
  readonly signal: AbortSignal;
}
