import { writeFile } from 'node:fs/promises';
import { isNarswarmError } from '../errors.ts';
import { readBounded } from '../disk/read-small.ts';
import type { StorePath } from '../nix/brands.ts';
import { formatNarInfo, parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import { baseNameOf, storeHashOf } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';
import { readRealisations, writeRealisations } from '../store/realisations.ts';
import { onDisk } from './disk-error.ts';
import { StagedFiles } from './staged-files.ts';

/** Limit on a narinfo, as for those of a cache. */
export const MAX_NARINFO_BYTES = 4 * 1024 * 1024;

/**
 * Writes narinfos into a suitcase. Their NARs are on the disk. Plain Nix reads the narinfos of a whole closure, so those
 * of left-out paths are written, too; if the suitcase has one from an earlier time, it stays, since it may name a file.
 *
 * @param infos references first
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function putNarInfos(
  infos: readonly NarInfo[],
  left: ReadonlySet<StorePath>,
  suitcase: FileStore,
): Promise<void> {
  const staged = new StagedFiles(suitcase);
  for (const info of infos) {
    const path = suitcase.narInfoPath(storeHashOf(info.storePath));
    const text = formatNarInfo(info);
    const there = await onDisk(path, () => readBounded(path, MAX_NARINFO_BYTES));
    if (there !== undefined && (left.has(info.storePath) ? namesFile(there) : isText(there, text))) continue;
    await onDisk(path, () => writeFile(StagedFiles.partOf(path), text));
    await staged.add(path, text.length);
  }
  await staged.settle();
}

/**
 * Writes the realisations of paths. Their names have a colon, which vfat and exFAT refuse: then they are left out.
 *
 * @returns the number of those that were left out
 */
export async function putRealisations(
  infos: readonly NarInfo[],
  store: FileStore,
  suitcase: FileStore,
): Promise<number> {
  const packed = new Set<string>(infos.map(({ storePath }) => baseNameOf(storePath)));
  let refused = 0;
  for (const [outPath, realisations] of await readRealisations(store)) {
    if (!packed.has(outPath)) continue;
    for (const realisation of realisations) {
      try {
        await writeRealisations([realisation], suitcase);
      } catch (error) {
        if (!isNarswarmError(error, 'STORE_UNWRITABLE')) throw error;
        refused++;
      }
    }
  }
  return refused;
}

function isText(bytes: Uint8Array, text: string): boolean {
  return Buffer.from(bytes).toString() === text;
}

function namesFile(bytes: Uint8Array): boolean {
  try {
    return !isWithoutNar(parseNarInfo(Buffer.from(bytes).toString()));
  } catch {
    return false;
  }
}
