import { isNarswarmError, NarswarmError, type Unpublished } from '../errors.ts';
import { isKnownCompression } from '../nix/compression.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isSafeNarUrl, withExtra } from '../nix/narinfo.ts';
import { isTrustedRealisation, type Realisation } from '../nix/realisation.ts';
import { baseNameOf } from '../nix/store-path.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import type { PublicKey } from '../nix/signature.ts';
import { admitNarInfo } from '../nix/sound-remarks.ts';
import { Catalogue } from '../store/catalogue/catalogue.ts';
import {
  contentsOf,
  entryOf,
  isOnlyOfNix,
  torrentOfEntry,
  type CatalogueEntry,
} from '../store/catalogue/catalogue-entry.ts';
import { FileStore } from '../store/file-store.ts';
import { narContentsOf } from '../store/hashing/hash-nar.ts';
import { hashNars, type HashItem, type Unread } from '../store/hashing/hash-pool.ts';
import type { TellHashing } from '../store/hashing/hashing.ts';
import { readRealisations } from '../store/realisations.ts';
import { extensionOf, narTorrent } from '../torrent/canonical.ts';
import { toRecord, withRealisations, withTorrentFields } from '../index/record.ts';
import type { LastRecords } from './last-records.ts';

/** A path of the store that is not in the hash map, and the reason. */
export interface LeftOut {
  readonly storePath: string;
  readonly reason: Unpublished;
}

export interface Collected {
  /** Without those that the last edition has already. */
  readonly records: NarInfo[];
  /** Number of records that the last edition has already. */
  readonly keptCount: number;
  readonly leftOut: LeftOut[];
  /** Bytes of NARs that had to be read: new ones, changed ones, and those never checked. */
  readonly hashedBytes: number;
}

/**
 * Makes the records of a hash map from narinfos of a file store. Includes only NARs whose contents were checked by
 * NarHash, since FileHash is not signed. Uses the catalogue's facts about unchanged NARs; reads and decompresses the
 * others once, several at a time.
 *
 * @param infos best in the order of their store hashes, if there is a last edition
 * @param context.last the last edition. A record that it has already is neither verified again nor returned
 * @param context.finish called with each record; returns it with what else belongs to it. Default: nothing
 * @throws NIX_MISSING if the program that decompresses a NAR is missing; STORE_FULL, STORE_UNWRITABLE for the
 *   catalogue; the signal's reason
 */
export async function collectRecords(
  infos: Iterable<NarInfo> | AsyncIterable<NarInfo>,
  context: {
    store: FileStore;
    catalogue: Catalogue;
    keys: readonly PublicKey[];
    last?: LastRecords | undefined;
    finish?: (record: NarInfo) => NarInfo;
    signal?: AbortSignal;
    tellHashing?: TellHashing | undefined;
  },
): Promise<Collected> {
  const { store, catalogue, keys, last, tellHashing, finish = (record) => record } = context;
  const leftOut: LeftOut[] = [];
  const records: NarInfo[] = [];
  let keptCount = 0;
  // A published NAR no longer counts as one that only Nix has asked for.
  const fresh: CatalogueEntry[] = [];
  const unknown: (HashItem & { readonly info: NarInfo })[] = [];
  const realisations = await readRealisations(store);
  const whole = (record: NarInfo): NarInfo => {
    const own = realisations.get(baseNameOf(record.storePath)) ?? [];
    const trusted = own.filter((one) => isTrustedRealisation(one, keys)).toSorted(byFile);
    return finish(withRealisations(record, trusted));
  };
  const take = async (record: NarInfo): Promise<void> => {
    if (await last?.has(record)) keptCount++;
    else records.push(record);
  };
  /** Returns true if the last edition has a record of exactly this narinfo and this file: it was verified then. */
  const isKept = async (info: NarInfo): Promise<boolean> => {
    if (last === undefined || catalogue.byStorePath(info.storePath) === undefined || !isSafeNarUrl(info.url))
      return false;
    const entry = catalogue.knows(info, store.statNarNow(info));
    if (entry?.torrent === undefined || isOnlyOfNix(entry) || contentsOf(entry, info) !== 'right') return false;
    return last.has(whole(withTorrentFields(localOf(info, entry), entry.torrent)));
  };
  const look = async (kept: NarInfo): Promise<void> => {
    const { storePath } = kept;
    if (isWithoutNar(kept)) return void leftOut.push({ storePath, reason: 'no-nar' });
    if (await isKept(kept)) return void keptCount++;
    const info = soundOf(kept, keys);
    if (info === undefined) return void leftOut.push({ storePath, reason: 'untrusted' });
    if (!isKnownCompression(info.compression)) return void leftOut.push({ storePath, reason: 'unknown-compression' });
    if (info.fileHash === undefined) return void leftOut.push({ storePath, reason: 'no-file-hash' });
    const file = await store.statNar(info);
    if (file === undefined) return void leftOut.push({ storePath, reason: 'no-nar' });
    const entry = catalogue.knows(info, file);
    const contents = entry === undefined ? 'unknown' : contentsOf(entry, info);
    if (contents === 'wrong') return void leftOut.push({ storePath, reason: 'wrong-contents' });
    if (entry !== undefined && contents === 'right' && entry.torrent !== undefined) {
      if (isOnlyOfNix(entry)) fresh.push({ ...entry, askedBy: 'publish' });
      await take(whole(recordOf(info, entry)));
    } else unknown.push({ info, path: store.narPath(info), sizeBytes: file.sizeBytes, contents: narContentsOf(info) });
  };
  for await (const info of infos) {
    context.signal?.throwIfAborted();
    await look(info);
  }

  const bytes = unknown.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  tellHashing?.({ type: 'hashing', nars: unknown.length, bytes });
  let hashedBytes = 0;
  const leaveOut = ({ info: { storePath } }: { readonly info: NarInfo }, failure: Unread | undefined): void => {
    leftOut.push({
      storePath,
      reason: failure === undefined ? 'no-nar' : 'unreadable-nar',
    });
  };
  for await (const { item, hashes } of hashNars(unknown, context.signal, leaveOut)) {
    hashedBytes += hashes.sizeBytes;
    tellHashing?.({ type: 'nar-hashed', bytes: hashes.sizeBytes });
    const { info } = item;
    const sizeFits = info.fileSize === undefined || info.fileSize === hashes.sizeBytes;
    if (hashes.fileHash !== info.fileHash || !sizeFits) {
      leftOut.push({ storePath: info.storePath, reason: 'other-nar' });
      continue;
    }
    const torrent = narTorrent({ ...hashes, extension: extensionOf(info.compression) });
    const entry = entryOf(torrent, info.storePath, hashes.mtimeMs, 'publish', hashes.narHash);
    fresh.push(entry);
    const contents = contentsOf(entry, info);
    if (contents === 'right') await take(whole(recordOf(info, entry)));
    else
      leftOut.push({
        storePath: info.storePath,
        reason: contents === 'wrong' ? 'wrong-contents' : 'unknown-compression',
      });
  }
  await catalogue.add(fresh);
  return { records, keptCount, leftOut, hashedBytes };
}

/**
 * Returns the sound part of a narinfo. Checks its remarks, too: a lying source may have added them. Returns undefined if no
 * key vouches for it.
 */
export function soundOf(info: NarInfo, keys: readonly PublicKey[]): NarInfo | undefined {
  try {
    return admitNarInfo(info, keys);
  } catch (error) {
    if (isNarswarmError(error, 'NARINFO_UNTRUSTED')) return undefined;
    throw error;
  }
}

/** Orders realisations, so that the same records give the same bytes. */
function byFile(a: Realisation, b: Realisation): number {
  return a.file < b.file ? -1 : 1;
}

/** Makes the record of a narinfo. */
function recordOf(info: NarInfo, entry: CatalogueEntry): NarInfo {
  const torrent = torrentOfEntry(entry);
  const local = localOf(info, entry);
  return torrent === undefined ? local : toRecord(local, torrent);
}

/**
 * Returns a narinfo of the file in the store, without a torrent. Its URL is the NAR's name in every file store, so that all
 * publishers write the same.
 */
function localOf(info: NarInfo, { fileHash, extension, sizeBytes }: CatalogueEntry): NarInfo {
  const bare = withExtra(withExtra(info, 'InfoHash', undefined), 'Pieces', undefined);
  return { ...bare, url: FileStore.narUrl(fileHash, extension), fileSize: sizeBytes };
}

/** @throws ROOT_UNKNOWN if a path that the user named was left out */
export function assertPublished(roots: ReadonlyMap<string, string>, collected: Collected): void {
  const reasons = new Map(collected.leftOut.map(({ storePath, reason }) => [storePath, reason]));
  for (const [name, path] of roots) {
    const reason = reasons.get(path);
    if (reason !== undefined) {
      throw new NarswarmError('ROOT_UNKNOWN', `the root ${name} (${path}) cannot be published`, {
        facts: { root: name, path, unpublished: reason },
      });
    }
  }
}
