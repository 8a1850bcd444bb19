import { isNarswarmError } from '../errors.ts';
import { mapFolder, type PublisherAddress } from '../index/address.ts';
import { indexDirOf } from '../index/files/index-dir.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';
import { publishersOf } from './source/source.ts';

/**
 * Stops sharing NARs that only the hash maps of these publishers list, in all processes that serve this store. Keeps
 * the hash maps, so that an older edition cannot pass as new if they are followed again.
 *
 * @param followed publishers that are still followed: their hash maps are left alone
 */
export async function unfollow(
  store: Pick<FileStore, 'stateDir'>,
  gone: readonly PublisherAddress[],
  followed: readonly PublisherAddress[],
): Promise<void> {
  const names = new Set(followed.map(mapFolder));
  for (const address of gone)
    if (!names.has(mapFolder(address))) await indexDirOf(inState(store, 'index'), address).setFollowed(false);
}

/** Returns the publishers of removed subscriptions. Ignores sources that earlier versions wrote differently. */
export function publishersOfGone(gone: readonly { readonly source: string }[]): PublisherAddress[] {
  return gone.flatMap(({ source }) => {
    try {
      return publishersOf([], [{ source }]);
    } catch (error) {
      if (isNarswarmError(error)) return [];
      throw error;
    }
  });
}
