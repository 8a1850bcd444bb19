import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Bytes that the partial files of a store occupy on the disk, which their length does not tell: pieces leave gaps. */
export async function partialBytes(store: string): Promise<number> {
  const parent = join(store, 'narswarm', 'partial');
  const files = await readdir(parent, { recursive: true }).catch(() => []);
  const found = await Promise.all(files.map((name) => stat(join(parent, name)).catch(() => undefined)));
  return found.reduce((sum, file) => sum + (file?.isFile() === true ? file.blocks * 512 : 0), 0);
}
