import type { NarHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { entryOf } from '../catalogue/catalogue-entry.ts';
import type { ExportFolder, FolderNar } from './export-folder.ts';
import type { FileStore } from '../file-store.ts';

/** Bytes and number of NARs after which their paths become visible: each time, all files are written to the disk. */
const COMMIT_BYTES = 256e6;
const COMMIT_NARS = 250;

/** Exported NARs that wait for their places in the store: a narinfo comes after those of its references. */
export class PendingExports {
  /** Narinfos written so far. */
  readonly written: NarInfo[] = [];
  /** Bytes of the NAR files moved into the store so far, and of their NARs. */
  addedBytes = 0;
  addedNarBytes = 0;
  readonly #options: PendingOptions;
  /** Paths without a narinfo yet, references first. */
  #waiting: readonly PathInfo[];
  /** NARs in the folder. */
  readonly #nars = new Map<NarHash, FolderNar>();
  /** NARs in their places, since several paths may share one. */
  readonly #placed = new Map<NarHash, Placed>();
  #newBytes = 0;
  #newNars = 0;
  #last: Promise<void> = Promise.resolve();

  /** @param paths references first */
  constructor(paths: readonly PathInfo[], options: PendingOptions) {
    this.#waiting = paths;
    this.#options = options;
  }

  /** Takes a complete NAR. From time to time, writes the narinfos that may be written. */
  async take(nar: FolderNar): Promise<void> {
    this.#nars.set(nar.narHash, nar);
    this.#newBytes += nar.torrent.sizeBytes;
    this.#newNars++;
    if (this.#newBytes >= COMMIT_BYTES || this.#newNars >= COMMIT_NARS) await this.commit();
  }

  /** Writes the narinfos of all paths whose NAR and references are there. One call after another. */
  commit(): Promise<void> {
    [this.#newBytes, this.#newNars] = [0, 0];
    this.#last = this.#last.then(() => this.#commit());
    return this.#last;
  }

  async #commit(): Promise<void> {
    const { store, catalogue, compression, complete } = this.#options;
    const ready = this.#takeReady();
    if (ready.length === 0) return;
    const fresh: { readonly info: NarInfo; readonly placed: Placed }[] = [];
    for (const path of ready) {
      const placed = this.#placed.get(path.narHash) ?? (await this.#place(path));
      const { url, nar } = placed;
      const file = { url, compression, fileHash: nar.torrent.fileHash, fileSize: nar.torrent.sizeBytes };
      fresh.push({ info: complete({ ...path, ...file, extra: [] }), placed });
    }
    const narInfos = await store.sync();
    for (const { info } of fresh) await narInfos.write(info);
    await catalogue.add(
      fresh.map(({ info, placed }) => entryOf(placed.nar.torrent, info.storePath, placed.mtimeMs, 'add', info.narHash)),
    );
    this.written.push(...fresh.map(({ info }) => info));
  }

  /** Removes and returns the waiting paths whose NARs are there, together with the NARs of all their references. */
  #takeReady(): PathInfo[] {
    const waiting = new Set<string>();
    const ready: PathInfo[] = [];
    for (const path of this.#waiting) {
      const own = baseNameOf(path.storePath);
      const isHere = this.#nars.has(path.narHash) || this.#placed.has(path.narHash);
      if (isHere && path.references.every((name) => name === own || !waiting.has(name))) ready.push(path);
      else waiting.add(own);
    }
    this.#waiting = this.#waiting.filter(({ storePath }) => waiting.has(baseNameOf(storePath)));
    return ready;
  }

  async #place({ narHash, narSize, storePath }: PathInfo): Promise<Placed> {
    const nar = this.#nars.get(narHash);
    if (nar === undefined) throw new TypeError(`the NAR ${narHash} is not exported`);
    const placed = { nar, ...(await this.#options.folder.place(nar, storePath)) };
    this.#nars.delete(narHash);
    this.#placed.set(narHash, placed);
    this.addedBytes += nar.torrent.sizeBytes;
    this.addedNarBytes += narSize;
    return placed;
  }
}

interface PendingOptions {
  readonly store: FileStore;
  readonly folder: Pick<ExportFolder, 'place'>;
  readonly catalogue: Pick<Catalogue, 'add'>;
  readonly compression: string;
  /** Returns the narinfo as it should be written, with all its signatures. */
  readonly complete: (info: NarInfo) => NarInfo;
}

interface Placed {
  readonly nar: FolderNar;
  readonly url: string;
  readonly mtimeMs: number;
}
