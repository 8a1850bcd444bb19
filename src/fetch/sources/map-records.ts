import { deltasOf, type Delta } from '../../delta/record.ts';
import { unlessInvalid } from '../../delta/unless-invalid.ts';
import { isNarswarmError } from '../../errors.ts';
import type { HashMap } from '../../index/hash-map.ts';
import { torrentOfRecord } from '../../index/record.ts';
import type { InfoHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { NarTorrent } from '../../torrent/canonical.ts';
import type { HashMaps } from './hash-maps.ts';

/** A patch that a hash map names. */
export interface NamedDelta extends Delta {
  /** URLs of the HTTP mirrors of hash maps that name it. */
  readonly mirrors: readonly string[];
}

/** The records of single NARs in hash maps: their torrents and patches. */
export class MapRecords {
  readonly #maps: Pick<HashMaps, 'settled' | 'answered'>;
  /** Hash maps that can no longer be read. They are not asked for more torrents. */
  readonly #unreachable = new Set<HashMap>();

  constructor(maps: Pick<HashMaps, 'settled' | 'answered'>) {
    this.#maps = maps;
  }

  /**
   * Returns the torrent of exactly this NAR file. A narinfo from a hash map has its own torrent; another hash map may
   * be wrong. For other narinfos, waits for all publishers and uses the first hash map that has one.
   */
  async torrentOf(info: NarInfo, signal: AbortSignal): Promise<NarTorrent | undefined> {
    const own = ownTorrent(info);
    if (own !== undefined) return own;
    for (const map of await this.#maps.settled()) {
      if (this.#unreachable.has(map)) continue;
      try {
        const record = await map.find(storeHashOf(info.storePath), signal);
        if (record === undefined || record.fileHash !== info.fileHash) continue;
        const torrent = torrentOfRecord(record);
        if (torrent?.sizeBytes === info.fileSize) return torrent;
      } catch (error) {
        signal.throwIfAborted();
        if (!isNarswarmError(error)) throw error; // a damaged record: the NAR is fetched from another source
        if (error.code === 'INDEX_UNREACHABLE') this.#unreachable.add(map);
      }
    }
    return undefined;
  }

  /** Returns true if a hash map that has answered names a patch for this NAR, as far as its shards are here. */
  mayPatch({ storePath, narHash }: NarInfo): boolean {
    return this.#maps.answered.some((map) => {
      const record = unlessInvalid(() => map.peek(storeHashOf(storePath)));
      return record !== undefined && record !== 'absent' && record.narHash === narHash && deltasOf(record).length > 0;
    });
  }

  /**
   * Returns the patches that hash maps name for this NAR. Asks only hash maps that have answered, and never fails: a NAR
   * without a patch is fetched whole.
   */
  async deltasOf({ storePath, narHash }: NarInfo, signal: AbortSignal): Promise<NamedDelta[]> {
    const found = new Map<InfoHash, NamedDelta>();
    for (const map of this.#maps.answered) {
      if (this.#unreachable.has(map)) continue;
      const record = await map.find(storeHashOf(storePath), signal).catch(() => undefined);
      signal.throwIfAborted();
      if (record?.narHash !== narHash) continue;
      for (const delta of deltasOf(record)) {
        const { infoHash } = delta.torrent;
        const mirrors = [...(found.get(infoHash)?.mirrors ?? []), ...(map.mirror === undefined ? [] : [map.mirror])];
        found.set(infoHash, { ...delta, mirrors });
      }
    }
    return [...found.values()];
  }
}

function ownTorrent(info: NarInfo): NarTorrent | undefined {
  try {
    return torrentOfRecord(info);
  } catch (error) {
    if (isNarswarmError(error)) return undefined; // a damaged record: another hash map may have it
    throw error;
  }
}
