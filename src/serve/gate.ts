import { statSync, type Stats } from 'node:fs';
import { prefixOf } from '../exchange/messages/messages.ts';
import type { InfoHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../swarm/swarm.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import { SmallReader } from '../disk/read-small.ts';
import {
  contentsOf,
  isInNixAs,
  isSameEntry,
  torrentOfEntry,
  type CatalogueEntry,
} from '../store/catalogue/catalogue-entry.ts';
import { FileStore } from '../store/file-store.ts';
import { NixNars } from '../store/in-nix/nix-nars.ts';
import type { OfferedFile } from '../exchange/answers/offer.ts';
import type { NarChecker } from './nar-checker.ts';
import type { SharedNars } from './shared-nars.ts';
import { NixFile } from './nix-file.ts';
import { StoreFile } from './store-file.ts';
import { withinMs } from '../within.ts';

/** A NAR that may be served: its torrent and its verified file. */
export interface Admitted {
  readonly torrent: NarTorrent;
  /** Absolute path of the NAR. */
  readonly path: string;
}

/**
 * A file that was let out, with the reasons. The next check takes two stats, and reads neither a file nor a signature.
 */
export interface Passed {
  /** The catalogue's entry, with the results of reading the file. */
  readonly entry: CatalogueEntry;
  /** Absolute path of the file. Undefined if the NAR is read from the Nix store. */
  readonly path: string | undefined;
}

/** An open file that was let out. */
export interface OpenedNar {
  readonly file: OfferedFile;
  /** Absolute path of the file. Undefined if it is read from the Nix store. */
  readonly path: string | undefined;
}

/** A verdict in few bytes: numbers take less memory than a text. */
interface Remembered {
  readonly entry: CatalogueEntry;
  /** Identity of the narinfo that was read ({@link hasIdentity}). */
  readonly inode: number;
  readonly changedAtMs: number;
  /** The version of the hash maps that the verdict rests on. Undefined if it rests on none. */
  readonly mapsVersion: number | undefined;
  /** The file's URL. Undefined if it is the usual one in this store. */
  readonly url: string | undefined;
}

/** Limit on remembered files, about 110 bytes each: enough for a whole channel. */
const MAX_REMEMBERED = 131_072;

/**
 * Time that a peer waits for a NAR that was never checked. It is enough for a small one. A larger one is ready for the
 * next peer.
 */
export const CHECK_PATIENCE_MS = 500;

/**
 * The only way in which a NAR of the file store reaches others. Lets the NAR of an infohash out only if
 *
 * - its store path was asked for by name (a line of the catalogue: fetch, publish or subscription), and
 * - the store's narinfo of that path is sound, and its NAR is shared ({@link SharedNars}), and
 * - the contents of the file have the NarHash of this signature or address, since nobody signs a FileHash, and
 * - that narinfo and the file are unchanged since that check (FileHash, size, time of last change); of a NAR in the
 *   Nix store, the path and every file that is read, and
 * - the hash maps are unchanged, if the NAR is shared because of one.
 *
 * So a private build in the same folder is never served, announced or put into a hash map, even if the narinfo of
 * another path names it.
 */
export class Gate {
  readonly #store: FileStore;
  readonly #catalogue: Catalogue;
  readonly #shared: Pick<SharedNars, 'judge' | 'stillHolds'>;
  readonly #checker: NarChecker | undefined;
  /** Reads NARs for others. */
  readonly #reader = new SmallReader();
  readonly #nixNars: NixNars;
  readonly #remembered = new Map<StorePath, Remembered>();

  /**
   * @param checker checks requested NARs that were never checked. Undefined: the gate refuses these
   * @param nixNars the NARs in the Nix store of this machine
   */
  constructor(
    store: FileStore,
    catalogue: Catalogue,
    shared: Pick<SharedNars, 'judge' | 'stillHolds'>,
    checker?: NarChecker,
    nixNars = new NixNars(),
  ) {
    this.#store = store;
    this.#catalogue = catalogue;
    this.#shared = shared;
    this.#checker = checker;
    this.#nixNars = nixNars;
  }

  /** Returns the NAR of an infohash. Undefined if it must not be served. */
  async admit(infoHash: InfoHash): Promise<Admitted | undefined> {
    for (const entry of this.#catalogue.byInfoHash(infoHash)) {
      const passed = await this.pass(entry);
      const torrent = passed && torrentOfEntry(passed.entry);
      if (torrent?.infoHash === infoHash && passed?.path !== undefined) return { torrent, path: passed.path };
    }
    return undefined;
  }

  /** Returns true for an entry that was let out before. {@link pass} decides whether it still may be. */
  hasPassed(entry: CatalogueEntry): boolean {
    return this.#passed(entry) !== undefined;
  }

  /**
   * Returns true for an entry that was let out before, and whose file is still the one that was checked. Looks at it each
   * time: Nix may collect a path at any moment, and a file may be removed. {@link pass} also looks at its narinfo.
   */
  isOffered(entry: CatalogueEntry): boolean {
    const known = this.#passed(entry);
    return known !== undefined && this.#isThere(known);
  }

  /** Returns true for an entry of the Nix store whose path is not there: there is nothing to check until it comes back. */
  isGone(entry: CatalogueEntry): boolean {
    return entry.isInNix === true && this.#nixNars.changedAtMs(entry.storePath) === undefined;
  }

  /** Returns the file of an entry. Undefined if it must not be served. */
  async pass(entry: CatalogueEntry): Promise<Passed | undefined> {
    const found = await this.#find(entry);
    if (found === undefined || !this.#isThere(found)) return undefined;
    return this.#remember(found);
  }

  /** Opens the file of an entry. Undefined if it must not be served. */
  async open(entry: CatalogueEntry): Promise<OpenedNar | undefined> {
    const found = await this.#find(entry);
    if (found === undefined) return undefined;
    const path = this.#pathOf(found);
    const file =
      path === undefined ? await NixFile.open(found.entry, this.#nixNars) : openIfSame(path, found.entry, this.#reader);
    if (file !== undefined) this.#remember(found);
    return file && { file, path };
  }

  /** Returns the verdict on an entry that may be served if its file is still the one that was checked. */
  async #find(entry: CatalogueEntry): Promise<Remembered | undefined> {
    const narInfo = statOf(this.#store.narInfoPath(storeHashOf(entry.storePath)));
    if (narInfo === undefined) return undefined;
    const known = this.#passed(entry);
    if (known !== undefined && hasIdentity(narInfo, known) && this.#isThere(known)) return known;
    if (this.isGone(entry)) return undefined;
    const found = await this.#check(entry, { inode: narInfo.ino, changedAtMs: narInfo.ctimeMs });
    if (found === undefined) this.#remembered.delete(entry.storePath);
    return found;
  }

  /** Reads the narinfo of an entry. Checks its signature, and that the contents are the signed ones. */
  async #check(
    entry: CatalogueEntry,
    identity: Pick<Remembered, 'inode' | 'changedAtMs'>,
  ): Promise<Remembered | undefined> {
    const info = await this.#store.readNarInfo(storeHashOf(entry.storePath)).catch(() => undefined);
    if (info === undefined || info.storePath !== entry.storePath) return undefined;
    const verdict = await this.#shared.judge(info, entry.askedBy);
    if (!verdict.isShared) return undefined;
    if (entry.isInNix === true) {
      const hashed = this.#isUnchangedInNix(entry) ? entry : await this.#lookInto(entry, info);
      if (hashed === undefined || !isInNixAs(hashed, info)) return undefined;
      return { entry: hashed, ...identity, mapsVersion: verdict.mapsVersion, url: undefined };
    }
    if (info.fileHash !== undefined && info.fileHash !== entry.fileHash) return undefined;
    const isKnown = contentsOf(entry, info) !== 'unknown' && isSameFileAt(this.#store.narPath(info), entry);
    const checked = isKnown ? entry : await this.#lookInto(entry, info);
    if (checked?.fileHash !== entry.fileHash || contentsOf(checked, info) !== 'right') return undefined;
    const isOurName = info.url === FileStore.narUrl(checked.fileHash, checked.extension);
    return { entry: checked, ...identity, mapsVersion: verdict.mapsVersion, url: isOurName ? undefined : info.url };
  }

  #passed(entry: CatalogueEntry): Remembered | undefined {
    const known = this.#remembered.get(entry.storePath);
    const isKnown = known !== undefined && isSameEntry(known.entry, entry) && this.#shared.stillHolds(known);
    return isKnown ? known : undefined;
  }

  async #lookInto(entry: CatalogueEntry, info: NarInfo): Promise<CatalogueEntry | undefined> {
    if (this.#checker === undefined) return undefined;
    return withinMs(CHECK_PATIENCE_MS, this.#checker.check(entry, info, 'now'));
  }

  #isThere(found: Remembered): boolean {
    const path = this.#pathOf(found);
    return path === undefined ? this.#isUnchangedInNix(found.entry) : isSameFileAt(path, found.entry);
  }

  #isUnchangedInNix({ storePath, mtimeMs }: CatalogueEntry): boolean {
    return this.#nixNars.changedAtMs(storePath) === mtimeMs;
  }

  #pathOf({ entry: { fileHash, extension, storePath, isInNix }, url }: Remembered): string | undefined {
    if (isInNix === true) return undefined;
    return this.#store.narPath({ url: url ?? FileStore.narUrl(fileHash, extension), storePath });
  }

  #remember(found: Remembered): Passed {
    const { storePath } = found.entry;
    if (this.#remembered.get(storePath) !== found) {
      if (this.#remembered.size >= MAX_REMEMBERED) this.#remembered.clear();
      this.#remembered.set(storePath, found);
    }
    return { entry: found.entry, path: this.#pathOf(found) };
  }
}

/**
 * Returns true for the same narinfo, unchanged. Store files appear by rename, which gives them another inode; a write
 * changes the time.
 */
function hasIdentity({ ino, ctimeMs }: Stats, { inode, changedAtMs }: Remembered): boolean {
  return ino === inode && ctimeMs === changedAtMs;
}

/** Opens a file if it is the one that was checked. */
function openIfSame(path: string, entry: CatalogueEntry, reader: SmallReader): StoreFile | undefined {
  const { fileHash, sizeBytes, mtimeMs } = entry;
  try {
    return StoreFile.open(path, { prefix: prefixOf(fileHash), sizeBytes, mtimeMs }, reader);
  } catch {
    return undefined; // the file is gone, or cannot be read
  }
}

/** Returns true if the file is the one that was checked. */
function isSameFileAt(path: string, { sizeBytes, mtimeMs }: CatalogueEntry): boolean {
  const found = statOf(path);
  return found?.isFile() === true && found.size === sizeBytes && Math.floor(found.mtimeMs) === mtimeMs;
}

/**
 * Returns the stats of a file, synchronously: the system has them in memory, and another thread takes ten times as
 * long.
 */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined; // the file is gone, or may not be looked at
  }
}

/** Turns an admitted NAR into a seed for the swarm. */
export function seedOf(admitted: Admitted | undefined): Seed | undefined {
  if (admitted === undefined) return undefined;
  const { torrent, path } = admitted;
  return { torrent, files: [{ path, sizeBytes: torrent.sizeBytes }] };
}
