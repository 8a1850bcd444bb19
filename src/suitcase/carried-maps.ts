/** The hash maps in a suitcase: signed editions, as they are. */
import { join } from 'node:path';
import { namesIn } from '../disk/names-in.ts';
import { readBounded } from '../disk/read-small.ts';
import { saltFromHex, type PublisherAddress } from '../index/address.ts';
import { IndexDir, indexDirOf } from '../index/index-dir.ts';
import { MANIFEST_NAME } from '../index/index-torrent.ts';
import { MAX_MANIFEST_BYTES } from '../index/limits.ts';
import { parseManifestText } from '../index/manifest-text.ts';
import { assertShard, shardFileName, type ShardEntry } from '../index/shard.ts';
import { readKept, verified, type Verified } from '../index/verified-manifest.ts';
import { publishedDir } from '../publish/publication.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';

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
    const found = await findKept(address, store, now);
    if (found === undefined) continue;
    const to = indexDirOf(inState(suitcase, 'index'), address);
    const there = await readBounded(join(to.dir, MANIFEST_NAME), MAX_MANIFEST_BYTES);
    const { seq } = found.kept.manifest;
    if (there !== undefined && (verified(address, there, now)?.manifest.seq ?? 0) > seq) continue;
    const copied = await copyShards(found.kept, to, ({ prefix }) => found.dir.readShard(prefix));
    await to.writeManifest(found.kept.bytes);
    carried.push({ address, seq, lackingShards: found.kept.manifest.shards.length - copied });
  }
  return carried;
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

/** Finds the newest edition that a store has of a hash map, followed or its own. */
async function findKept(
  address: PublisherAddress,
  store: FileStore,
  now: Date,
): Promise<{ readonly dir: IndexDir; readonly kept: Verified } | undefined> {
  const dirs = [indexDirOf(inState(store, 'index'), address), publishedDir(store, address.salt)];
  const found = await Promise.all(
    dirs.map(async (dir) => {
      const kept = await readKept(address, dir, now);
      return kept === undefined ? [] : [{ dir, kept }];
    }),
  );
  return found.flat().toSorted((a, b) => b.kept.manifest.seq - a.kept.manifest.seq)[0];
}

/** Copies the shards of an edition that are there and right. @returns their number */
async function copyShards(
  { manifest }: Verified,
  to: IndexDir,
  read: (entry: ShardEntry) => Promise<Uint8Array | undefined>,
): Promise<number> {
  let copied = 0;
  for (const entry of manifest.shards) {
    const there = await readBounded(join(to.dir, shardFileName(entry.prefix)), entry.sizeBytes);
    if (isShard(entry, there)) {
      copied++;
      continue;
    }
    const bytes = await read(entry);
    if (bytes === undefined || !isShard(entry, bytes)) continue;
    await to.writeShard(entry.prefix, bytes);
    copied++;
  }
  return copied;
}

function isShard(entry: ShardEntry, bytes: Uint8Array | undefined): boolean {
  try {
    if (bytes === undefined) return false;
    assertShard(entry, bytes);
    return true;
  } catch {
    return false;
  }
}
