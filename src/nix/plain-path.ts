import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Characters that need no escape in the path of a store URI, in any version of Nix. */
const PLAIN = /^[A-Za-z0-9/._+-]+$/;

/**
 * Calls `use` with a path of the folder that is safe in a store URI. Nix 2.8 takes escapes literally, later versions
 * decode them, and neither accepts a space or a question mark. If the folder's path has such characters, `use` gets a
 * temporary symbolic link to it, which is removed afterwards.
 */
export async function withPlainPath<T>(dir: string, use: (plain: string) => Promise<T>): Promise<T> {
  if (PLAIN.test(dir)) return use(dir);
  const parent = await mkdtemp(join(tmpdir(), 'narswarm-'));
  try {
    const link = join(parent, 'store');
    await symlink(dir, link);
    return await use(link);
  } finally {
    await rm(parent, { recursive: true, force: true }); // the link, not its target
  }
}
