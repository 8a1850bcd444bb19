import { NarswarmError } from '../errors.ts';
import type { FileStore } from '../store/file-store.ts';
import { pidOfOwner, stateOfOwner } from '../store/owner.ts';
import { Turn } from '../store/turn.ts';

/**
 * Makes this process the one daemon of a store until it is disposed of: two would offer the same NARs under two addresses,
 * and sign two maps in turn. One of another machine or container that shares the folder is no reason to stop: it serves
 * another network.
 *
 * @throws STORE_BUSY where a daemon of this machine serves the store; STORE_FULL, STORE_UNWRITABLE
 */
export async function serveAlone(
  store: FileStore,
  onWarning: (message: string) => void,
): Promise<AsyncDisposable | undefined> {
  const taken = await Turn.take(store, 'serving');
  if (taken instanceof Turn) return taken;
  if ((await stateOfOwner(taken)) === 'unknown') {
    onWarning(`a daemon of another machine or container serves ${store.dir}, too`);
    return undefined;
  }
  const pid = pidOfOwner(taken);
  throw new NarswarmError(
    'STORE_BUSY',
    `another narswarm daemon (process ${pid}) serves ${store.dir}: stop that one, or give this one another --store`,
    { facts: { path: store.dir, pid } },
  );
}
