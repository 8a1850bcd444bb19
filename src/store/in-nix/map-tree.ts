import type { Stats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { NarMapBuilder, type NarMap } from './nar-map.ts';

/** Limit on the memory of one map: a path with about 130,000 files. */
export const MAX_MAP_BYTES = 32 * 1024 * 1024;
/** Entries of a folder that are looked at together. Each is a question to another thread. */
const AT_ONCE = 32;
/** The bit that makes a file executable in a NAR: its owner may execute it. */
const OWNER_EXECUTES = 0o100;
/** Time of last change that Nix gives to everything in its store: one second after the epoch. */
const STORE_MTIME_MS = 1_000;
const SLASH = Buffer.from('/');

/** Returns true for a file that has not changed since Nix put it into its store, as far as its time tells. */
export function hasStoreTime({ mtimeMs }: Pick<Stats, 'mtimeMs'>): boolean {
  return Math.floor(mtimeMs) === STORE_MTIME_MS;
}

/**
 * Maps the NAR of a path in a Nix store, by walking it. Reads names, sizes and targets of links, but no file.
 *
 * @returns undefined if it is gone, has changed since Nix put it there, has anything but files, folders and links,
 *   cannot be read, or if its map would be larger than `maxBytes`
 */
export async function mapTree(root: string, maxBytes = MAX_MAP_BYTES): Promise<NarMap | undefined> {
  const builder = new NarMapBuilder();
  try {
    await addNode(builder, { root: Buffer.from(root), path: Buffer.alloc(0), maxBytes }, await lstat(root));
    return builder.build();
  } catch {
    return undefined;
  }
}

/** Where a walk is. */
interface Place {
  readonly root: Buffer;
  /** Path below the root. */
  readonly path: Buffer;
  readonly maxBytes: number;
}

async function addNode(builder: NarMapBuilder, place: Place, stats: Stats): Promise<void> {
  const whole = absolute(place.root, place.path);
  builder.strings('(', 'type');
  if (stats.isSymbolicLink()) {
    builder.strings('symlink', 'target', await readlink(whole, { encoding: 'buffer' }));
  } else if (stats.isFile()) {
    if (!hasStoreTime(stats)) throw new Error('changed');
    builder.strings('regular');
    if ((stats.mode & OWNER_EXECUTES) !== 0) builder.strings('executable', '');
    builder.strings('contents');
    builder.contents({ path: place.path, sizeBytes: stats.size });
  } else if (stats.isDirectory()) {
    builder.strings('directory');
    await addEntries(builder, place, whole);
  } else throw new Error('neither file nor folder nor link');
  builder.strings(')');
  if (builder.memoryBytes > place.maxBytes) throw new Error('too large');
}

async function addEntries(builder: NarMapBuilder, place: Place, folder: Buffer): Promise<void> {
  const names = (await readdir(folder, { encoding: 'buffer' })).toSorted((a, b) => Buffer.compare(a, b));
  for (let at = 0; at < names.length; at += AT_ONCE) {
    const some = names.slice(at, at + AT_ONCE);
    const stats = await Promise.all(some.map((name) => lstat(absolute(folder, name))));
    for (const [index, name] of some.entries()) {
      builder.strings('entry', '(', 'name', name, 'node');
      const path = place.path.length === 0 ? name : Buffer.concat([place.path, SLASH, name]);
      await addNode(builder, { ...place, path }, stats[index]!);
      builder.strings(')');
    }
  }
}

/** Returns the path of something below a folder; of the folder itself for an empty path. */
export function absolute(folder: Buffer, path: Buffer): Buffer {
  return path.length === 0 ? folder : Buffer.concat([folder, SLASH, path]);
}
