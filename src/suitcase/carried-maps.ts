/** The hash maps in a suitcase: signed editions, as they are. */
import { join } from 'node:path';
import { namesIn } from '../disk/names-in.ts';
import { readBounded } from '../disk/read-small.ts';
import { isNarswarmError, type NarswarmError } from '../errors.ts';
import type { Workplace } from '../fetch/workplace.ts';
import { mapFolder, saltFromHex, type PublisherAddress } from '../index/address.ts';
import { editionFiles } from '../index/files/edition-files.ts';
import { IndexDir, indexDirOf } from '../index/files/index-dir.ts';
import { MANIFEST_NAME } from '../index/files/index-torrent.ts';
import { MAX_MANIFEST_BYTES } from '../index/format/limits.ts';
import { parseManifestText } from '../index/format/manifest-text.ts';
import { fileNameOf, isFile, type FileEntry, type ListedShard } from '../index/format/shard.ts';
import { resolveHashMap, type ResolveContext } from '../index/resolve/resolve.ts';
import { acceptManifest, readKept, verified, type Verified } from '../index/format/verified-manifest.ts';
import { publishedDir } from '../publish/publication.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState, STATE_FOLDER } from '../store/state-folder.ts';
import { onDisk } from './disk-error.ts';

/** Limit on hash maps that are named because they are not followed here. */
const MAX_NAMED = 5;

/** A hash map that a suitcase has got. */
export interface CarriedMap {
  readonly address: PublisherAddress;
  /** The number of its edition. */
  readonly seq: number;
  /** Shards that this machine does not have, and so the suitcase neither. */
  readonly lackingShards: number;
}

/** Puts the editions that a store keeps of these hash maps into a suitcase, unless it has newer ones. */
export async function putMaps(
  addresses: readonly PublisherAddress[],
  store: FileStore,
  suitcase: FileStore,
  now: Date,
): Promise<CarriedMap[]> {
  const carried: CarriedMap[] = [];
  for (const address of addresses) {
    const kept = await newestKept(address, store, now);
    if (kept === undefined) continue;
    const to = indexDirOf(inState(suitcase, 'index'), address);
    const there = await readBounded(join(to.dir, MANIFEST_NAME), MAX_MANIFEST_BYTES);
    const { seq } = kept.manifest;
    if (there !== undefined && (verified(address, there, now)?.manifest.seq ?? 0) > seq) continue;
    const lackingShards = await copyShards(kept, to, (entry) => keptShard(entry, address, store));
    await to.writeManifest(kept.bytes);
    carried.push({ address, seq, lackingShards });
  }
  return carried;
}

/**
 * Fetches the parts that a store lacks of hash maps: a fetch has read only those that it needed. Leaves out parts that
 * cannot be reached.
 *
 * @throws the signal's reason
 */
export async function completeMaps(
  addresses: readonly PublisherAddress[],
  { store, network, http }: Pick<Workplace, 'store' | 'network' | 'http'>,
  { now, timeoutMs, signal }: { readonly now: Date; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  for (const address of addresses) {
    const kept = await newestKept(address, store, now);
    const isWhole = kept !== undefined && (await lackOfShards(kept, address, store)) === 0;
    if (isWhole || (network === undefined && address.baseUrl === undefined)) continue;
    const getBytes: ResolveContext['getBytes'] = (url, limits) => http.getBytes(url, limits);
    const context = { network, getBytes, dir: inState(store, 'index'), now, timeoutMs, signal, asksMembers: true };
    try {
      await using resolved = await resolveHashMap(address, context);
      await resolved.map.fetchAll(signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!isNarswarmError(error)) throw error;
    }
  }
}

/** Returns the addresses of the hash maps that this machine publishes itself. */
export async function ownMaps(store: Pick<FileStore, 'stateDir'>): Promise<PublisherAddress[]> {
  const addresses: PublisherAddress[] = [];
  for await (const name of namesIn(inState(store, 'published'))) {
    const salt = saltFromHex(name === '0' ? '' : name);
    const bytes = salt === undefined ? undefined : await publishedDir(store, salt).readManifest();
    if (salt === undefined || bytes === undefined) continue;
    const { publicKeyHex } = parseManifestText(Buffer.from(bytes).toString());
    addresses.push({ publicKey: new Uint8Array(Buffer.from(publicKeyHex, 'hex')), publicKeyHex, salt });
  }
  return addresses;
}

/** Returns the newest edition that a store has of a hash map, followed or its own. */
async function newestKept(address: PublisherAddress, store: FileStore, now: Date): Promise<Verified | undefined> {
  const found = await Promise.all(dirsOf(address, store).map((dir) => readKept(address, dir, now)));
  return found.filter((kept) => kept !== undefined).toSorted((a, b) => b.manifest.seq - a.manifest.seq)[0];
}

/** Returns the folders in which a store may keep a hash map. */
function dirsOf(address: PublisherAddress, store: FileStore): IndexDir[] {
  return [indexDirOf(inState(store, 'index'), address), publishedDir(store, address.salt)];
}

/** Reads a shard of an edition from the folder that has it. */
async function keptShard(
  entry: FileEntry,
  address: PublisherAddress,
  store: FileStore,
): Promise<ListedShard | undefined> {
  for (const dir of dirsOf(address, store)) {
    const bytes = await dir.readShard(entry);
    if (isFile(entry, bytes)) return bytes;
  }
  return undefined;
}

async function lackOfShards({ manifest }: Verified, address: PublisherAddress, store: FileStore): Promise<number> {
  let lacking = 0;
  const read = (entry: FileEntry): Promise<ListedShard | undefined> => keptShard(entry, address, store);
  for await (const entry of editionFiles(manifest, read)) if ((await read(entry)) === undefined) lacking++;
  return lacking;
}

/** The results for the hash maps of a suitcase. */
export interface TakenMaps {
  /** Those whose edition is now kept here. */
  readonly taken: readonly PublisherAddress[];
  /** Those of publishers that this machine does not follow. They are left alone. */
  readonly unfollowed: readonly PublisherAddress[];
  readonly failures: readonly NarswarmError[];
}

/**
 * Takes the hash maps of followed publishers out of a suitcase, as if they had come over the network: signed, not
 * expired, and no older than seen before. All NARs of a kept hash map are shared, so those of strangers are left alone.
 * If one cannot be read, that is a failure of this one.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function takeMaps(
  dir: string,
  store: FileStore,
  followed: readonly PublisherAddress[],
  now: Date,
): Promise<TakenMaps> {
  const kept = await keptMaps(store);
  const byFolder = new Map([...kept, ...followed].map((address) => [mapFolder(address), address]));
  const taken: PublisherAddress[] = [];
  const unfollowed: PublisherAddress[] = [];
  const failures: NarswarmError[] = [];
  const readDisk = <T>(path: string, read: () => Promise<T>): Promise<T | undefined> =>
    onDisk(path, read, 'read').catch((error: unknown) => {
      if (!isNarswarmError(error)) throw error;
      failures.push(error);
      return undefined;
    });
  const folder = inState({ stateDir: join(dir, STATE_FOLDER) }, 'index');
  const names: string[] = [];
  await readDisk(folder, async () => {
    for await (const name of namesIn(folder)) names.push(name);
  });
  for (const name of names) {
    const address = byFolder.get(name);
    if (address === undefined) {
      unfollowed.push(...namedMap(name).slice(0, MAX_NAMED - unfollowed.length));
      continue;
    }
    const manifest = join(folder, name, MANIFEST_NAME);
    const bytes = await readDisk(manifest, () => readBounded(manifest, MAX_MANIFEST_BYTES));
    try {
      if (bytes !== undefined && (await takeMap(bytes, join(folder, name), address, store, now))) taken.push(address);
    } catch (error) {
      if (!isNarswarmError(error, 'INDEX_SIGNATURE', 'INDEX_INVALID', 'INDEX_EXPIRED')) throw error;
      failures.push(error);
    }
  }
  return { taken, unfollowed, failures };
}

/** Returns the hash maps that a store keeps for publishers that are followed. */
async function keptMaps(store: FileStore): Promise<PublisherAddress[]> {
  const addresses: PublisherAddress[] = [];
  for await (const name of namesIn(inState(store, 'index')))
    for (const address of namedMap(name))
      if (await indexDirOf(inState(store, 'index'), address).isFollowed()) addresses.push(address);
  return addresses;
}

/** Takes an edition by its manifest. @returns false if a newer one is kept here */
async function takeMap(
  bytes: Uint8Array,
  dir: string,
  address: PublisherAddress,
  store: FileStore,
  now: Date,
): Promise<boolean> {
  const to = indexDirOf(inState(store, 'index'), address);
  const kept = await readKept(address, to, now);
  const found = verified(address, bytes, now);
  if (found !== undefined && kept !== undefined && found.manifest.seq < kept.manifest.seq) return false;
  const accepted = await acceptManifest(address, bytes, to, kept, now);
  // Those that the disk does not give are fetched from elsewhere once they are needed.
  const read = (entry: FileEntry): Promise<Uint8Array | undefined> =>
    readBounded(join(dir, fileNameOf(entry)), entry.sizeBytes).catch(() => undefined);
  await copyShards(accepted, to, read);
  await to.setFollowed(true);
  return true;
}

/** Copies the files of an edition that are there and right. @returns the number of those that are not, as far as known */
async function copyShards(
  { manifest }: Verified,
  to: IndexDir,
  read: (entry: FileEntry) => Promise<Uint8Array | undefined>,
): Promise<number> {
  let lacking = 0;
  const copy = async (entry: FileEntry): Promise<ListedShard | undefined> => {
    const there = await readBounded(join(to.dir, fileNameOf(entry)), entry.sizeBytes);
    if (isFile(entry, there)) return there;
    const bytes = await read(entry);
    if (!isFile(entry, bytes)) return undefined;
    await to.writeShard(entry, bytes);
    return bytes;
  };
  for await (const entry of editionFiles(manifest, copy)) if ((await copy(entry)) === undefined) lacking++;
  return lacking;
}

/** Reads the folder name of a hash map. Nothing if it is none. */
function namedMap(name: string): PublisherAddress[] {
  const [, publicKeyHex, hex] = /^([0-9a-f]{64})-([0-9a-f]*)$/.exec(name) ?? [];
  const salt = hex === undefined ? undefined : saltFromHex(hex === '0' ? '' : hex);
  if (publicKeyHex === undefined || salt === undefined) return [];
  return [{ publicKey: new Uint8Array(Buffer.from(publicKeyHex, 'hex')), publicKeyHex, salt }];
}
