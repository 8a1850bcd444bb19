/** Symbolic links that keep store paths from Nix's garbage collector. */
import { randomBytes } from 'node:crypto';
import { readlink, rename, symlink } from 'node:fs/promises';
import type { StorePath } from '../brands.ts';
import { addIndirectRoots } from './indirect-roots.ts';
import { describeStore } from '../programs/nix-settings.ts';
import type { StoreCallOptions } from '../programs/run-nix.ts';
import { isAbsentStore } from '../store-place.ts';

/** Store URLs of Nix on another machine, which cannot see links here. */
const ELSEWHERE = /^ssh(?:-ng)?:/;
/** Store URLs of binary caches, which nothing collects. */
const CACHE = /^(?:file|https?|s3):/;

/**
 * Says whether links on this machine keep paths in a store. `here`: they do. `elsewhere`: its Nix runs on another machine.
 * `never`: it has no garbage collector.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words
 */
export async function placeOfRoots(options: StoreCallOptions): Promise<'here' | 'elsewhere' | 'never'> {
  if (await isAbsentStore(options.store)) return 'here';
  const url = options.store ?? (await describeStore(options)).url ?? '';
  return ELSEWHERE.test(url) ? 'elsewhere' : CACHE.test(url) ? 'never' : 'here';
}

/**
 * Makes links that keep their targets from now on, or as soon as they are valid. Replaces links to other paths, and registers
 * links again that are there.
 *
 * @param links absolute paths and their targets. Their folders exist
 * @throws the system's error; as {@link addIndirectRoots}
 */
export async function linkRoots(links: ReadonlyMap<string, StorePath>, options: StoreCallOptions): Promise<void> {
  for (const [link, path] of links) await placeLink(link, path);
  await addIndirectRoots([...links.keys()], options);
}

async function placeLink(link: string, target: string): Promise<void> {
  if ((await readlink(link).catch(() => undefined)) === target) return;
  const temporary = `${link}.${randomBytes(4).toString('hex')}.tmp`;
  await symlink(target, temporary);
  await rename(temporary, link);
}
