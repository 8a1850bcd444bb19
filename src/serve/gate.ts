import { stat } from 'node:fs/promises';
import type { InfoHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../swarm/swarm.ts';
import { contentsOf, torrentOfEntry, type Catalogue, type CatalogueEntry } from '../store/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import type { NarChecker } from './nar-checker.ts';
import type { SharedNars } from './shared-nars.ts';
import { withinMs } from '../within.ts';

/** A NAR that may be served: its torrent and the verified file behind it. */
export interface Admitted {
  readonly torrent: NarTorrent;
  /** Absolute path of the NAR. */
  readonly path: string;
}

/** A NAR that was let through before, and why: it costs two stats the next time, not a file read and a signature. */
interface Passed {
  readonly entry: CatalogueEntry;
  /** Of the narinfo that was read. */
  readonly identity: string | undefined;
  readonly info: NarInfo;
  readonly admitted: Admitted;
}

/** So many are remembered: some hundred bytes each. */
const MAX_PASSED = 8192;

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
  /** What was let through, with the narinfo that was read for it. */
  readonly #passed = new Map<InfoHash, Passed>();

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
      const admitted = await this.#admit(infoHash, entry);
      if (admitted !== undefined) return admitted;
    }
    return undefined;
  }

  async #admit(infoHash: InfoHash, entry: CatalogueEntry): Promise<Admitted | undefined> {
    const narInfoFile = this.#store.narInfoPath(storeHashOf(entry.storePath));
    const identity = await identityOf(narInfoFile);
    const known = this.#passed.get(infoHash);
    const isKnown = known !== undefined && known.entry === entry && known.identity === identity;
    const passed = isKnown ? known : await this.#check(entry, identity);
    if (passed === undefined) return undefined;
    const file = await this.#store.statNar(passed.info);
    if (file?.sizeBytes !== passed.entry.sizeBytes || file.mtimeMs !== passed.entry.mtimeMs) return undefined;
    if (!isKnown) this.#remember(infoHash, passed);
    return passed.admitted;
  }

  /** Reads the narinfo of an entry, and checks its signature and whether the contents are the signed ones. */
  async #check(entry: CatalogueEntry, identity: string | undefined): Promise<Passed | undefined> {
    const info = await this.#store.readNarInfo(storeHashOf(entry.storePath)).catch(() => undefined);
    if (info === undefined || info.storePath !== entry.storePath) return undefined;
    if (!(await this.#shared.includes(info, entry.askedBy))) return undefined;
    if (info.fileHash !== undefined && info.fileHash !== entry.fileHash) return undefined;
    const checked = contentsOf(entry, info) === 'unknown' ? await this.#lookInto(entry, info) : entry;
    if (checked?.infoHash !== entry.infoHash || contentsOf(checked, info) !== 'right') return undefined;
    const admitted = { torrent: torrentOfEntry(checked), path: this.#store.narPath(info) };
    return { entry: checked, identity, info, admitted };
  }

  async #lookInto(entry: CatalogueEntry, info: NarInfo): Promise<CatalogueEntry | undefined> {
    if (this.#checker === undefined) return undefined;
    return withinMs(CHECK_PATIENCE_MS, this.#checker.check(entry, info, 'now'));
  }

  #remember(infoHash: InfoHash, passed: Passed): void {
    if (this.#passed.size >= MAX_PASSED) this.#passed.clear();
    if (passed.identity !== undefined) this.#passed.set(infoHash, passed);
  }
}

/** A file that is replaced or written to is another: store files appear by rename, and so get another inode. */
async function identityOf(path: string): Promise<string | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found && `${found.dev}:${found.ino}:${found.size}:${found.mtimeMs}:${found.ctimeMs}`;
}

/** A NAR that the gate let through, as the swarm wants it. */
export function seedOf(admitted: Admitted | undefined): Seed | undefined {
  if (admitted === undefined) return undefined;
  const { torrent, path } = admitted;
  return { torrent, files: [{ path, sizeBytes: torrent.sizeBytes }] };
}
