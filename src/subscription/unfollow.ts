import { isNarswarmError } from '../errors.ts';
import { mapFolder, type PublisherAddress } from '../index/address.ts';
import { indexDirOf } from '../index/resolve.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';
import { publishersOf } from './source.ts';

/**
 * Stops sharing what only the hash maps of these publishers list, in all processes that serve this store. Their hash maps are
 * kept, so that no older edition passes as new if they are followed again.
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

/** Returns the publishers that removed subscriptions have named. Ignores sources that earlier versions wrote differently. */
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
