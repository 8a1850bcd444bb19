/** Profiles: links with generations. Nix's garbage collector takes none of them. */
import { readdir, readlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { NarswarmError } from '../../errors.ts';
import type { StorePath } from '../brands.ts';
import { askNix, nixFailed, storeArgs, type StoreCallOptions } from '../programs/run-nix.ts';

/**
 * Makes a path the newest generation of a profile, unless it is. Leaves the profile alone then, even if its user has gone back
 * to an older generation.
 *
 * @param profile absolute path of the profile, whose folder this user may write
 * @returns false if the path was the newest generation already
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words; the signal's reason
 */
export async function addProfileGeneration(
  profile: string,
  path: StorePath,
  options: StoreCallOptions,
): Promise<boolean> {
  if ((await newestGeneration(profile)) === path) return false;
  const args = ['--profile', profile, ...storeArgs(options), '--option', 'substituters', '', '--set', path];
  const result = await askNix('nix-env', args, options);
  if (result.failed) {
    const { message, facts } = nixFailed(result);
    throw new NarswarmError('NIX_FAILED', `${profile} gets no new generation: ${message}`, { cause: result, facts });
  }
  return true;
}

/** Returns the path of a profile's newest generation: the link `NAME-NUMBER-link` beside it with the highest number. */
async function newestGeneration(profile: string): Promise<string | undefined> {
  const name = basename(profile);
  const numbers = (await readdir(dirname(profile)).catch(() => [])).flatMap((entry) => {
    const [, number] = entry.startsWith(`${name}-`) ? (/^-(\d{1,15})-link$/.exec(entry.slice(name.length)) ?? []) : [];
    return number === undefined ? [] : Number(number);
  });
  if (numbers.length === 0) return undefined;
  return readlink(join(dirname(profile), `${name}-${Math.max(...numbers)}-link`)).catch(() => undefined);
}
