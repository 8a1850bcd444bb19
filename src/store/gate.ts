import { stat } from 'node:fs/promises';
import type { InfoHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { isTrusted, type PublicKey } from '../nix/signature.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../torrent/swarm.ts';
import { torrentOfEntry, type Catalogue, type CatalogueEntry } from './catalogue.ts';
import type { FileStore } from './file-store.ts';

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
 * The one door through which a NAR of the file store reaches anybody else. It opens for an infohash only if
 *
 * - its store path was asked for by name (a line of the catalogue: fetch, publish or subscription), and
 * - the store's narinfo of that path is signed by a key of a configured public cache, or the path follows from its
 *   content address, and
 * - that narinfo and the file still are the ones that were hashed (FileHash, size, time of last change).
 *
 * So a private build that lies in the same folder is never served, announced or put into a hash map.
 */
export class Gate {
  readonly #store: FileStore;
  readonly #catalogue: Catalogue;
  readonly #keys: readonly PublicKey[];
  /** What was let through, with the narinfo that was read for it. */
  readonly #passed = new Map<InfoHash, Passed>();

  constructor(store: FileStore, catalogue: Catalogue, trustedKeys: readonly PublicKey[]) {
    this.#store = store;
    this.#catalogue = catalogue;
    this.#keys = trustedKeys;
  }

  /** The NAR behind an infohash, or undefined where it must not be served. */
  async admit(infoHash: InfoHash): Promise<Admitted | undefined> {
    const entry = this.#catalogue.byInfoHash(infoHash);
    if (entry === undefined) return undefined;
    const narInfoFile = this.#store.narInfoPath(storeHashOf(entry.storePath));
    const identity = await identityOf(narInfoFile);
    const known = this.#passed.get(infoHash);
    const isKnown = known !== undefined && known.entry === entry && known.identity === identity;
    const passed = isKnown ? known : await this.#check(entry, identity);
    if (passed === undefined) return undefined;
    const file = await this.#store.statNar(passed.info);
    if (file?.sizeBytes !== entry.sizeBytes || file.mtimeMs !== entry.mtimeMs) return undefined;
    if (!isKnown) this.#remember(infoHash, passed);
    return passed.admitted;
  }

  /** Reads the narinfo of an entry and checks its signature. */
  async #check(entry: CatalogueEntry, identity: string | undefined): Promise<Passed | undefined> {
    const info = await this.#store.readNarInfo(storeHashOf(entry.storePath)).catch(() => undefined);
    if (info === undefined || info.storePath !== entry.storePath) return undefined;
    if (!isTrusted(info, this.#keys)) return undefined;
    if (info.fileHash !== undefined && info.fileHash !== entry.fileHash) return undefined;
    return { entry, identity, info, admitted: { torrent: torrentOfEntry(entry), path: this.#store.narPath(info) } };
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
