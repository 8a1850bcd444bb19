import { statfs } from 'node:fs/promises';

/**
 * Returns the bytes that this user may still write to the disk of a folder. Undefined if the file system does not say: some
 * behind FUSE, or on a server, have no blocks at all.
 *
 * @throws the system's error
 */
export async function freeBytesAt(folder: string): Promise<number | undefined> {
  const { blocks, bavail, bsize } = await statfs(folder);
  return blocks === 0 ? undefined : bavail * bsize;
}
