import { randomUUID } from 'node:crypto';
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { InfoHash } from '../nix/brands.ts';
import type { FileStore } from '../store/file-store.ts';
import { storeError } from '../store/store-error.ts';
import type { Seed } from '../torrent/swarm.ts';
import { mapFolder, type PublisherAddress } from './address.ts';
import type { Index } from './build.ts';
import type { IndexDir } from './index-dir.ts';
import { indexFiles, indexTorrent, type IndexTorrent } from './index-torrent.ts';

/** The one that is newest, and the one that followers may still be reading. */
const KEPT_GENERATIONS = 2;

/** A generation of a map that may be seeded. */
export interface SeededGeneration {
  readonly torrent: IndexTorrent;
  readonly seed: Seed;
}

/**
 * Makes a generation of a map ready to be seeded. Its files get a folder of their own, `narswarm/generations/<map>/`,
 * since {@link IndexDir} is overwritten by the next generation while peers still read this one: they would be sent
 * other bytes than they asked for, and ban us. Files that lie in `dir` are linked, so that they are on the disk once.
 * The newest two generations stay.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function seedGeneration(
  store: FileStore,
  map: { readonly address: PublisherAddress; readonly seq: number; readonly index: Index; readonly dir: IndexDir },
): Promise<SeededGeneration> {
  const torrent = await indexTorrent(map.index);
  const parent = join(store.stateDir, 'generations', mapFolder(map.address));
  const own = join(parent, `${map.seq}-${torrent.infoHash}`);
  const files = Array.from(indexFiles(map.index), ([name, bytes]) => ({ name, bytes, path: join(own, name) }));
  try {
    for (const file of files) await keep(file.path, file.bytes, join(map.dir.dir, file.name));
    await removeOld(parent);
  } catch (error) {
    throw storeError(error, own);
  }
  const seedFiles = files.map(({ path, bytes }) => ({ path, sizeBytes: bytes.length }));
  return { torrent, seed: { torrent: torrent.torrentFile, files: seedFiles } };
}

/** The generations that a process offers: as many of each map as there are on the disk. */
export class OfferedGenerations {
  readonly #byMap = new Map<string, SeededGeneration[]>();

  /** @returns false where that generation was offered already */
  add(address: PublisherAddress, generation: SeededGeneration): boolean {
    const map = mapFolder(address);
    const before = this.#byMap.get(map) ?? [];
    const others = before.filter(({ torrent }) => torrent.infoHash !== generation.torrent.infoHash);
    this.#byMap.set(map, [generation, ...others].slice(0, KEPT_GENERATIONS));
    return others.length === before.length;
  }

  /** Offers a map no longer. */
  remove(address: PublisherAddress): void {
    this.#byMap.delete(mapFolder(address));
  }

  /** Of the torrents that are offered now. */
  *infoHashes(): IterableIterator<InfoHash> {
    for (const generations of this.#byMap.values()) for (const { torrent } of generations) yield torrent.infoHash;
  }

  get(infoHash: InfoHash): Seed | undefined {
    for (const generations of this.#byMap.values()) {
      const found = generations.find(({ torrent }) => torrent.infoHash === infoHash);
      if (found !== undefined) return found.seed;
    }
    return undefined;
  }
}

/** Puts these bytes at `path`: as a link to `source` where that has them. */
async function keep(path: string, bytes: Uint8Array, source: string): Promise<void> {
  if (await holds(path, bytes)) return;
  const temporary = `${path}.${randomUUID().slice(0, 8)}.tmp`;
  await mkdir(dirname(path), { recursive: true });
  try {
    await link(source, temporary).catch(() => undefined); // a file system without links
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

async function removeOld(parent: string): Promise<void> {
  const names = (await readdir(parent)).toSorted((a, b) => Number.parseInt(b, 10) - Number.parseInt(a, 10));
  for (const name of names.slice(KEPT_GENERATIONS)) await rm(join(parent, name), { recursive: true, force: true });
}
