import type { InfoHash } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { verifyNarInfo, type PublicKey } from '../nix/signature.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../torrent/swarm.ts';
import { torrentOfEntry, type Catalogue } from './catalogue.ts';
import type { FileStore } from './file-store.ts';

/** A NAR that may be served: its torrent and the verified file behind it. */
export interface Admitted {
  readonly torrent: NarTorrent;
  /** Absolute path of the NAR. */
  readonly path: string;
}

/**
 * The one door through which a NAR of the file store reaches anybody else. It opens for an infohash only if
 *
 * - its store path was asked for by name (a line of the catalogue: fetch, publish or subscription), and
 * - the store's narinfo of that path is signed by a key of a configured public cache, and
 * - that narinfo and the file still are the ones that were hashed (FileHash, size, time of last change).
 *
 * So a private build that lies in the same folder is never served, announced or put into a hash map.
 */
export class Gate {
  readonly #store: FileStore;
  readonly #catalogue: Catalogue;
  readonly #keys: readonly PublicKey[];

  constructor(store: FileStore, catalogue: Catalogue, trustedKeys: readonly PublicKey[]) {
    this.#store = store;
    this.#catalogue = catalogue;
    this.#keys = trustedKeys;
  }

  /** The NAR behind an infohash, or undefined where it must not be served. */
  async admit(infoHash: InfoHash): Promise<Admitted | undefined> {
    const entry = this.#catalogue.byInfoHash(infoHash);
    if (entry === undefined) return undefined;
    const info = await this.#store.readNarInfo(storeHashOf(entry.storePath)).catch(() => undefined);
    if (info === undefined || info.storePath !== entry.storePath) return undefined;
    if (verifyNarInfo(info, this.#keys) === undefined) return undefined;
    if (info.fileHash !== undefined && info.fileHash !== entry.fileHash) return undefined;
    const file = await this.#store.statNar(info);
    if (file?.sizeBytes !== entry.sizeBytes || file.mtimeMs !== entry.mtimeMs) return undefined;
    return { torrent: torrentOfEntry(entry), path: this.#store.narPath(info) };
  }
}

/** A NAR that the gate let through, as the swarm wants it. */
export function seedOf(admitted: Admitted | undefined): Seed | undefined {
  if (admitted === undefined) return undefined;
  const { torrent, path } = admitted;
  return { torrent, files: [{ path, sizeBytes: torrent.sizeBytes }] };
}
