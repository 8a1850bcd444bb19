import { randomUUID } from 'node:crypto';
import { link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { inState } from '../../store/state-folder.ts';
import { makeFolder } from '../../disk/make-folder.ts';
import type { FileHash, InfoHash, StoreHash } from '../../nix/brands.ts';
import type { FileStore } from '../../store/file-store.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import type { Seed } from '../../swarm/swarm.ts';
import { mapFolder, type PublisherAddress } from '../address.ts';
import { editionFiles } from './edition-files.ts';
import { IndexDir } from './index-dir.ts';
import { indexTorrent, MANIFEST_NAME, type IndexTorrent } from './index-torrent.ts';
import { manifestName } from './member-files.ts';
import type { Manifest } from '../manifest.ts';
import { assertShard, fileNameOf, type FileEntry, type ListedShard } from '../format/shard.ts';
import { verified, type Verified } from '../format/verified-manifest.ts';
import { temporaryBeside } from '../../disk/replace.ts';

/** The newest edition and the one before it, which followers may still be reading. */
const KEPT_EDITIONS = 2;

/** An edition of a hash map, ready to be seeded. */
export interface SeededEdition {
  readonly torrent: IndexTorrent;
  readonly seed: Seed;
  /** The name by which members ask for its manifest. */
  readonly name: StoreHash;
  /** The shards, by their SHA-256 in nix32. */
  readonly shards: ReadonlyMap<string, Seed['files'][number]>;
}

/** An edition whose files are in a folder. */
export interface StoredEdition {
  readonly address: PublisherAddress;
  readonly manifest: Manifest;
  /** The verified bytes of the manifest. */
  readonly bytes: Uint8Array;
  readonly dir: IndexDir;
}

/**
 * Prepares an edition of a hash map for seeding. Puts its files into their own folder, `narswarm/generations/<map>/`.
 * (The next edition overwrites {@link IndexDir}: peers that still read this one would get wrong bytes and ban us.)
 * Links the files of `dir`, so that they are on the disk once. Keeps the newest two editions. Holds one shard at a time
 * in memory.
 *
 * @throws INDEX_INVALID if `dir` already has another edition; STORE_FULL, STORE_UNWRITABLE
 */
export async function seedEdition(store: FileStore, edition: StoredEdition): Promise<SeededEdition> {
  const { address, manifest, bytes: signed, dir } = edition;
  const { seq } = manifest;
  const parent = join(inState(store, 'generations'), mapFolder(address));
  const own = join(parent, `${seq}.${randomUUID().slice(0, 8)}`);
  const files: { name: string; path: string; sizeBytes: number }[] = [];
  const take = async (name: string, bytes: Uint8Array): Promise<void> => {
    const path = join(own, name);
    // The manifest is the record of the history, so there are two of it.
    await keep(path, bytes, name === MANIFEST_NAME ? undefined : join(dir.dir, name));
    files.push({ name, path, sizeBytes: bytes.length });
  };
  try {
    await take(MANIFEST_NAME, signed);
    const read = async (entry: FileEntry): Promise<ListedShard> => {
      const bytes = (await dir.readShard(entry)) ?? new Uint8Array();
      assertShard(entry, bytes);
      return bytes;
    };
    const entries: FileEntry[] = [];
    for await (const entry of editionFiles(manifest, read)) {
      await take(fileNameOf(entry), await read(entry));
      entries.push(entry);
    }
    const torrent = await indexTorrent(files);
    const place = join(parent, `${seq}-${torrent.infoHash}`);
    await moveFolder(own, place);
    await removeOld(parent);
    const seedFiles = files.map(({ name, sizeBytes }) => ({ path: join(place, name), sizeBytes }));
    const bySha256 = new Map(entries.map(({ sha256 }, index) => [sha256, seedFiles[index + 1]!]));
    const seed = { torrent: torrent.torrentFile, files: seedFiles };
    return { torrent, seed, name: manifestName(torrent.infoHash), shards: bySha256 };
  } catch (error) {
    throw storeError(error, own);
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}

/** Reads the manifest of the newest edition that was prepared for seeding. Undefined if none is sound. */
export async function newestSeeded(
  store: Pick<FileStore, 'stateDir'>,
  address: PublisherAddress,
  now: Date,
): Promise<Verified | undefined> {
  const parent = join(inState(store, 'generations'), mapFolder(address));
  const names = (await readdir(parent).catch(() => [])).filter((name) => name.includes('-'));
  for (const name of names.toSorted((a, b) => seqOf(b) - seqOf(a))) {
    const bytes = await new IndexDir(join(parent, name)).readManifest();
    const found = bytes && verified(address, bytes, now);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Returns the edition of a folder, by its name. */
function seqOf(name: string): number {
  return Number.parseInt(name, 10);
}

/** Moves a folder into its place, unless another process has already made the same one. */
async function moveFolder(from: string, to: string): Promise<void> {
  await rename(from, to).catch((error: unknown) => {
    if (!['ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) throw error;
  });
}

/** The editions that a process offers. Of each hash map, it offers as many as are kept on the disk. */
export class OfferedEditions {
  readonly #byMap = new Map<string, SeededEdition[]>();

  /** Adds an edition. @returns false if it is already offered */
  add(address: PublisherAddress, edition: SeededEdition): boolean {
    const map = mapFolder(address);
    const before = this.#byMap.get(map) ?? [];
    const others = before.filter(({ torrent }) => torrent.infoHash !== edition.torrent.infoHash);
    this.#byMap.set(map, [edition, ...others].slice(0, KEPT_EDITIONS));
    return others.length === before.length;
  }

  /** Returns the folder of the newest edition of a map, by the map's own folder name ({@link mapFolder}). */
  dirOf(map: string): IndexDir | undefined {
    const [manifest] = this.#byMap.get(map)?.[0]?.seed.files ?? [];
    return manifest === undefined ? undefined : new IndexDir(dirname(manifest.path));
  }

  /** Stops offering a hash map. */
  remove(address: PublisherAddress): void {
    this.#byMap.delete(mapFolder(address));
  }

  /** Yields the infohashes of the offered torrents. */
  *infoHashes(): IterableIterator<InfoHash> {
    for (const { torrent } of this.#all()) yield torrent.infoHash;
  }

  /** Returns the manifest that members ask for by this name. */
  async manifest(name: StoreHash): Promise<string | undefined> {
    for (const edition of this.#all()) {
      const [file] = edition.seed.files;
      if (file !== undefined && edition.name === name) return readFile(file.path, 'utf8').catch(() => undefined);
    }
    return undefined;
  }

  /** Returns the shard with this SHA-256. */
  shard(sha256: FileHash): Seed['files'][number] | undefined {
    for (const { shards } of this.#all()) {
      const found = shards.get(sha256);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  get(infoHash: InfoHash): Seed | undefined {
    for (const { torrent, seed } of this.#all()) if (torrent.infoHash === infoHash) return seed;
    return undefined;
  }

  *#all(): IterableIterator<SeededEdition> {
    for (const editions of this.#byMap.values()) yield* editions;
  }
}

/** Writes these bytes to `path`: as a link to `source` if that is a file with the same bytes. */
async function keep(path: string, bytes: Uint8Array, source: string | undefined): Promise<void> {
  if (await holds(path, bytes)) return;
  const temporary = temporaryBeside(path);
  await makeFolder(dirname(path));
  try {
    if (source !== undefined) await link(source, temporary).catch(() => undefined); // fails on a file system without links
    if (!(await holds(temporary, bytes))) {
      await rm(temporary, { force: true });
      await writeFile(temporary, bytes);
    }
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function holds(path: string, bytes: Uint8Array): Promise<boolean> {
  const there = await readFile(path).catch(() => undefined);
  return there !== undefined && Buffer.compare(there, bytes) === 0;
}

/** Removes all but the newest editions. Spares a folder that another process is still filling. */
async function removeOld(parent: string): Promise<void> {
  const names = (await readdir(parent)).toSorted((a, b) => seqOf(b) - seqOf(a));
  const whole = names.filter((name) => name.includes('-'));
  const newest = seqOf(whole[0] ?? '0');
  const old = [...whole.slice(KEPT_EDITIONS), ...names.filter((name) => name.includes('.') && seqOf(name) < newest)];
  for (const name of old) await rm(join(parent, name), { recursive: true, force: true });
}
