import { NarswarmError } from '../../errors.ts';
import type { HttpDownloads } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import { asFileHash } from '../../nix/hash.ts';
import { parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import { isWithoutNar } from '../../nix/path-info.ts';
import { storeDirOf } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { withSafeUrl } from '../plan/named-file.ts';

const MAX_NARINFO_BYTES = 4 * 1024 * 1024;
/** Extra attempts at an upstream while another one can be asked. */
export const RETRIES_WITH_ALTERNATIVE = 1;

/** A source of narinfos: the file store, a hash map, an upstream cache. */
export interface NarInfoSource {
  /** Its name in errors and reports. */
  readonly name: string;
  /** True if it is reached over a network: then the next source is asked, too, if this one is silent. */
  readonly mayStall?: boolean;
  /**
   * Milliseconds of silence after which the next source is asked, too. Default: 2,000. With 0 it is asked at the same
   * time as the next one, and does not count as slow.
   */
  readonly patienceMs?: number;
  /** The cache with the files of its narinfos. Undefined if any upstream may have them. */
  readonly upstream?: Upstream;
  /** True for the store that is imported into: its paths need no signature. */
  readonly isTarget?: boolean;
  /** True if its narinfos need no signature, since Nix is told to trust it. */
  readonly isTrusted?: boolean;
  /**
   * Returns the narinfo if it is known without asking; `absent` if there is none. Undefined if the source must be
   * asked.
   */
  peek?(hash: StoreHash): NarInfo | 'absent' | undefined;
  /** @param path the whole path, if known */
  find(hash: StoreHash, signal: AbortSignal, path?: StorePath): Promise<NarInfo | undefined>;
}

/**
 * Returns a source of the narinfos in the file store. Lists the store once, since it lacks most of a new closure.
 *
 * @param isHere returns true if the NAR of a narinfo can be given. Default: all count, since a fetch gets the NARs that are
 *   not there
 */
export async function storeSource(
  store: FileStore,
  isHere: (info: NarInfo) => Promise<boolean> = () => Promise.resolve(true),
): Promise<NarInfoSource> {
  const held = new Set(await store.listStoreHashes());
  return {
    name: store.dir,
    peek: (hash) => (held.has(hash) ? undefined : 'absent'),
    async find(hash) {
      const info = held.has(hash) ? await store.readNarInfo(hash) : undefined;
      if (info === undefined || isWithoutNar(info)) return undefined; // the target may still have the path
      return (await isHere(info)) ? info : undefined;
    },
  };
}

/** Returns a source of all narinfos in the file store, whatever their signatures, also those without a NAR. */
export function anyInStore(store: FileStore): NarInfoSource {
  return { name: store.dir, isTrusted: true, find: (hash) => store.readNarInfo(hash) };
}

/**
 * Returns a source of the narinfos of a binary cache.
 *
 * @param retries limit on retries. Set if another source can be asked: then this one also gets less time
 * @param storeDir the store directory that the paths must be in. Default: any
 */
export function upstreamSource(
  upstream: Upstream,
  http: HttpDownloads,
  retries?: number,
  storeDir?: string,
): NarInfoSource {
  return {
    name: upstream.name,
    mayStall: true,
    upstream,
    isTrusted: upstream.isTrusted,
    async find(hash, signal) {
      const givesWay = retries !== undefined;
      const { isAnnounced } = upstream;
      const options = { maxBytes: MAX_NARINFO_BYTES, signal, retries, givesWay, isAnnounced, isShort: true };
      const bytes = await http.getBytes(upstream.narInfoUrl(hash), options);
      if (bytes === undefined) return undefined;
      const info = asOfCache(parseNarInfo(new TextDecoder().decode(bytes)));
      const theirs = storeDirOf(info.storePath);
      if (storeDir === undefined || theirs === storeDir) return isAnnounced ? withSafeUrl(info) : info;
      const wayOut = `set NIX_STORE_DIR=${theirs}, with a file store of its own (--store)`;
      throw new NarswarmError(
        'CACHE_INFO_INVALID',
        `${upstream.name} is a cache for the store directory ${theirs}, and ours is ${storeDir}: ${wayOut}`,
        {
          facts: { upstream: upstream.name, theirs, ours: storeDir },
        },
      );
    },
  };
}

/**
 * Reads the narinfo of a cache, which names no torrents. An uncompressed file is the NAR itself, so FileHash and
 * FileSize are set to NarHash and NarSize: nix-serve and others that compress nothing leave them out.
 */
function asOfCache(info: NarInfo): NarInfo {
  if (info.extra.length > 0) return asOfCache({ ...info, extra: [] });
  if (info.compression !== 'none') return info;
  return { ...info, fileHash: asFileHash(info.narHash), fileSize: info.narSize };
}
