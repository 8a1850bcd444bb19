import { existsSync } from 'node:fs';
import { NarswarmError } from '../../errors.ts';
import type { Subscription } from '../../subscription/subscription.ts';

/**
 * Checks the word of a command line that names a folder, where the others name subscriptions and roots.
 *
 * @param place where the folder is named
 * @throws USAGE if it is one of the others: then the folder was forgotten, or named elsewhere
 */
export function assertFolderWord(
  dir: string,
  configured: readonly Subscription[],
  { place, folder }: { readonly place: 'first' | 'last'; readonly folder: string },
): void {
  const isSubscription = configured.some(({ name }) => name === dir);
  if (existsSync(dir) && (place === 'first' || !isSubscription)) return;
  if (!isSubscription && !isInstallable(dir)) return;
  const what = isSubscription ? 'a subscription' : place === 'first' ? 'something to show' : 'something to pack';
  const other = isSubscription ? `./${dir} for one of that name` : 'make it first, for one of that name';
  throw new NarswarmError('USAGE', `${dir} is ${what}: name ${folder} ${place} (${other})`);
}

/** Returns true for `flake#attribute`. If the flake is a path, it must exist: the name of a disk may have a `#`, too. */
function isInstallable(word: string): boolean {
  const [flake] = word.split('#', 1);
  if (flake === undefined || flake === word) return false;
  return !/^\.{0,2}\//.test(flake) || existsSync(flake);
}
