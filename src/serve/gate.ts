import { statSync, type Stats } from 'node:fs';
import type { InfoHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../swarm/swarm.ts';
import { contentsOf, isSameEntry, torrentOfEntry, type Catalogue, type CatalogueEntry } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import type { NarChecker } from './nar-checker.ts';
import type { SharedNars } from './shared-nars.ts';
import { withinMs } from '../within.ts';

/** A NAR that may be served: its torrent and the verified file behind it. */
export interface Admitted {
  readonly torrent: NarTorrent;
  /** Absolute path of the NAR. */
  readonly path: string;
}

/** A file that was let through, and why: it costs two stats the next time, not a file read and a signature. */
export interface Passed {
  /** With what was found in the file. */
  readonly entry: CatalogueEntry;
  /** Absolute path of the file. */
  readonly path: string;
}

interface Remembered {
  readonly entry: CatalogueEntry;
  /** Of the narinfo that was read. */
  readonly identity: string;
  /** Where the file is, if it does not have the name that this store gives it. */
  readonly url: string | undefined;
}

/** So many are remembered, a whole channel: some 150 bytes each. */
const MAX_REMEMBERED = 131_072;

/**
 * A peer waits so long for a NAR to be looked into that nobody has looked into yet: enough for a small one. The next peer
 * that asks for a larger one finds it done.
 */
export const CHECK_PATIENCE_MS = 500;

/**
 * The one door through which a NAR of the file store reaches anybody else. It opens for an infohash only if
 *
 * - its store path was asked for by name (a line of the catalogue: fetch, publish or subscription), and
 * - the store's narinfo of that path is sound, and its NAR is shared ({@link SharedNars}), and
 * - the contents of the file have the NarHash that this signature or address is about: nobody signs a FileHash, and
 * - that narinfo and the file still are the ones that were checked (FileHash, size, time of last change).
 *
 * So a private build in the same folder is never served, announced or put into a hash map, though somebody names it
 * in a narinfo of something else.
 */
export class Gate {
  readonly #store: FileStore;
  readonly #catalogue: Catalogue;
  readonly #shared: Pick<SharedNars, 'includes'>;
  readonly #checker: NarChecker | undefined;
  readonly #remembered = new Map<StorePath, Remembered>();

  /** @param checker looks into NARs that are asked for before anybody has. Absent: the gate stays shut for these */
  constructor(store: FileStore, catalogue: Catalogue, shared: Pick<SharedNars, 'includes'>, checker?: NarChecker) {
    this.#store = store;
    this.#catalogue = catalogue;
    this.#shared = shared;
    this.#checker = checker;
  }

  /** The NAR behind an infohash, or undefined where it must not be served. */
  async admit(infoHash: InfoHash): Promise<Admitted | undefined> {
    for (const entry of this.#catalogue.byInfoHash(infoHash)) {
      const passed = await this.pass(entry);
      if (passed?.entry.infoHash === infoHash) return { torrent: torrentOfEntry(passed.entry), path: passed.path };
    }
    return undefined;
  }

  /** True for an entry that was let through before; {@link pass} tells if it still may be. */
  hasPassed(entry: CatalogueEntry): boolean {
    return isSameEntry(this.#remembered.get(entry.storePath)?.entry, entry);
  }

  /** The file of an entry, or undefined where it must not be served. */
  async pass(entry: CatalogueEntry): Promise<Passed | undefined> {
    const identity = identityOf(this.#store.narInfoPath(storeHashOf(entry.storePath)));
    if (identity === undefined) return undefined;
    const known = this.#remembered.get(entry.storePath);
    const isKnown = known?.identity === identity && isSameEntry(known.entry, entry);
    const found = isKnown ? known : await this.#check(entry, identity);
    if (found === undefined) return undefined;
    const { fileHash, extension, storePath } = found.entry;
    const path = this.#store.narPath({ url: found.url ?? FileStore.narUrl(fileHash, extension), storePath });
    if (!isSameFileAt(path, found.entry)) return undefined;
    if (!isKnown) this.#remember(found);
    return { entry: found.entry, path };
  }

  /** Reads the narinfo of an entry, and checks its signature and whether the contents are the signed ones. */
  async #check(entry: CatalogueEntry, identity: string): Promise<Remembered | undefined> {
    const info = await this.#store.readNarInfo(storeHashOf(entry.storePath)).catch(() => undefined);
    if (info === undefined || info.storePath !== entry.storePath) return undefined;
    if (!(await this.#shared.includes(info, entry.askedBy))) return undefined;
    if (info.fileHash !== undefined && info.fileHash !== entry.fileHash) return undefined;
    const checked = contentsOf(entry, info) === 'unknown' ? await this.#lookInto(entry, info) : entry;
    if (checked?.fileHash !== entry.fileHash || contentsOf(checked, info) !== 'right') return undefined;
    const isOurName = info.url === FileStore.narUrl(checked.fileHash, checked.extension);
    return { entry: checked, identity, url: isOurName ? undefined : info.url };
  }

  async #lookInto(entry: CatalogueEntry, info: NarInfo): Promise<CatalogueEntry | undefined> {
    if (this.#checker === undefined) return undefined;
    return withinMs(CHECK_PATIENCE_MS, this.#checker.check(entry, info, 'now'));
  }

  #remember(found: Remembered): void {
    if (this.#remembered.size >= MAX_REMEMBERED) this.#remembered.clear();
    this.#remembered.set(found.entry.storePath, found);
  }
}

/**
 * A file that is replaced or written to is another: store files appear by rename, and so get another inode. Asked at once:
 * a question to another thread costs ten times as much as its answer, which the system has in memory.
 */
function identityOf(path: string): string | undefined {
  const found = statOf(path);
  return found && `${found.dev}:${found.ino}:${found.size}:${found.ctimeMs}`;
}

/** True if the file is the one that was checked. */
function isSameFileAt(path: string, { sizeBytes, mtimeMs }: CatalogueEntry): boolean {
  const found = statOf(path);
  return found?.isFile() === true && found.size === sizeBytes && Math.floor(found.mtimeMs) === mtimeMs;
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined; // it may not be looked at
  }
}

/** A NAR that the gate let through, as the swarm wants it. */
export function seedOf(admitted: Admitted | undefined): Seed | undefined {
  if (admitted === undefined) return undefined;
  const { torrent, path } = admitted;
  return { torrent, files: [{ path, sizeBytes: torrent.sizeBytes }] };
}
