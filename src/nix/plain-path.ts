import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What stands for itself in the path of a store URI, for every version of Nix. */
const PLAIN = /^[A-Za-z0-9/._+-]+$/;

/**
 * Runs `use` with a path of the folder that can be part of a store URI. Nix 2.8 takes escapes literally, newer ones
 * decode them, and neither takes a space or a question mark: where the folder's name has anything of that kind, `use`
 * gets a symbolic link to it in the folder for temporary files, which is gone afterwards.
 */
export async function withPlainPath<T>(dir: string, use: (plain: string) => Promise<T>): Promise<T> {
  if (PLAIN.test(dir)) return use(dir);
  const parent = await mkdtemp(join(tmpdir(), 'narswarm-'));
  try {
    const link = join(parent, 'store');
    await symlink(dir, link);
    return await use(link);
  } finally {
    await rm(parent, { recursive: true, force: true }); // the link, not what it leads to
  }
}
