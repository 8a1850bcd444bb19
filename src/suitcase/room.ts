import { stat, statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { freeBytesAt } from '../disk/free-bytes.ts';
import { NarswarmError } from '../errors.ts';
import { diskError } from './disk-error.ts';
import type { SuitcaseNar } from './suitcase-nars.ts';

/** Limit on the size of a file on vfat: one byte less than 4 GiB. */
const VFAT_MAX_BYTES = 2 ** 32 - 1;
/** The number of vfat in statfs(2) (Linux: include/uapi/linux/magic.h). */
const VFAT = 0x4d44;

/** The room on the disk of a folder. */
export interface Room {
  /** Undefined: the file system does not say. */
  readonly freeBytes: number | undefined;
  /** Files take a multiple of this. */
  readonly blockBytes: number;
  readonly isVfat: boolean;
  /** The disk, as stat(2) numbers it. */
  readonly device: number;
}

/** Measures the room at a folder that may not exist yet. @throws STORE_UNWRITABLE if nothing on the way to it exists */
export async function roomAt(dir: string): Promise<Room> {
  let folder = resolve(dir);
  while ((await stat(folder).catch(() => undefined)) === undefined && dirname(folder) !== folder)
    folder = dirname(folder);
  const { dev: device } = await stat(folder).catch((error: unknown) => {
    throw diskError(error, folder);
  });
  const { bsize, type } = await statfs(folder).catch((error: unknown) => {
    throw diskError(error, folder);
  });
  return { freeBytes: await freeBytesAt(folder), blockBytes: bsize, isVfat: type === VFAT, device };
}

/** Returns the bytes that files take on a disk with blocks of this size. */
export function onBlocks(sizes: Iterable<number>, blockBytes: number): number {
  let sum = 0;
  for (const size of sizes) sum += Math.ceil(size / blockBytes) * blockBytes;
  return sum;
}

/**
 * @param role the kind of data that is written to `dir`
 * @throws STORE_FULL if its disk has less room than is needed
 */
export function assertRoom(
  neededBytes: number,
  { freeBytes }: Pick<Room, 'freeBytes'>,
  { dir, role }: { readonly dir: string; readonly role: 'suitcase' | 'store' },
): void {
  if (freeBytes === undefined || neededBytes <= freeBytes) return;
  throw new NarswarmError('STORE_FULL', `there is not enough room on the disk of ${dir}`, {
    facts: { path: dir, neededBytes, freeBytes, role },
  });
}

/** @throws STORE_UNWRITABLE if vfat cannot take a file of the size of one of these NARs */
export function assertFileSizes(nars: readonly SuitcaseNar[], { isVfat }: Room, dir: string): void {
  const large = isVfat ? nars.find(({ sizeBytes }) => sizeBytes > VFAT_MAX_BYTES) : undefined;
  if (large === undefined) return;
  throw new NarswarmError(
    'STORE_UNWRITABLE',
    `the NAR of ${large.storePath} has ${large.sizeBytes} bytes, and ${dir} is on a disk with vfat, which takes less than 4 GiB: format the disk as exFAT or ext4`,
    { facts: { path: large.storePath, bytes: large.sizeBytes } },
  );
}
