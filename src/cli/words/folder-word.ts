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
  if (!isSubscription && !dir.includes('#')) return;
  const what = isSubscription ? 'a subscription' : place === 'first' ? 'something to show' : 'something to pack';
  throw new NarswarmError('USAGE', `${dir} is ${what}: name ${folder} ${place} (./${dir} for one of that name)`);
}
