import { systemCode } from '../disk/store-error.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';

/** The access to the disk that failed. */
type DiskUse = 'read' | 'write';

const FULL = new Set(['ENOSPC', 'EDQUOT']);
const REFUSED = new Set(['EROFS', 'EACCES', 'EPERM']);

/** Turns a failure of the disk that a suitcase is on into STORE_FULL or STORE_UNWRITABLE, with the way out. */
export function diskError(error: unknown, path: string, use: DiskUse = 'write'): NarswarmError {
  if (isNarswarmError(error) && systemCode(error.cause) === undefined) return error;
  const cause = isNarswarmError(error) ? error.cause : error;
  const named = isNarswarmError(error) ? error.facts['path'] : undefined;
  const place = typeof named === 'string' ? named : path;
  const code = systemCode(cause) ?? String(cause);
  const isFull = FULL.has(code);
  return new NarswarmError(isFull ? 'STORE_FULL' : 'STORE_UNWRITABLE', sentence(code, place, use), {
    cause,
    facts: { path: place },
  });
}

function sentence(code: string, path: string, use: DiskUse): string {
  const again = 'then run the same command again to continue';
  if (FULL.has(code)) return `no room left for ${path}: free some, or take a larger disk, ${again}`;
  if (code === 'EFBIG')
    return `${path} is too large a file for this disk: format one as exFAT or ext4, ${again} (vfat takes 4 GiB)`;
  if (code === 'ENOTDIR') return `a file is in the way of ${path}: name a folder`;
  const wayOut = use === 'read' ? 'let this user read all files of the disk' : 'make the disk and the folder writable';
  if (REFUSED.has(code)) return `cannot ${use} ${path} (${code}): ${wayOut}, ${again}`;
  return `cannot ${use} ${path} (${code}): check that the disk is plugged in and mounted, ${again}`;
}

/** Runs work on the disk of a suitcase. @throws as {@link diskError}, for a failure of the disk */
export async function onDisk<T>(path: string, work: () => Promise<T>, use: DiskUse = 'write'): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const isOfDisk = systemCode(error) !== undefined || isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE');
    throw isOfDisk ? diskError(error, path, use) : error;
  }
}
