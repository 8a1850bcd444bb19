import { NarswarmError } from '../errors.ts';
import type { FileStore } from '../store/file-store.ts';
import { pidOfOwner, stateOfOwner } from '../disk/owner.ts';
import { Turn } from '../store/turn.ts';
import type { Warn } from '../warning.ts';

/**
 * Takes the turn of serving a store, until it is disposed of. Warns if a second daemon serves the same store: both
 * offer the same NARs under two addresses. Refuses a second daemon that publishes: the two would sign two hash maps in
 * turn. Accepts a daemon of another machine or container that shares the folder, since it serves another network.
 *
 * @param options.publishes true if this process signs a hash map of the store
 * @returns undefined if another process has the turn
 * @throws STORE_BUSY; STORE_FULL, STORE_UNWRITABLE
 */
export async function takeServingTurn(
  store: FileStore,
  { publishes, onWarning }: { readonly publishes: boolean; readonly onWarning: Warn },
): Promise<AsyncDisposable | undefined> {
  const taken = await Turn.take(store, 'serving');
  if (taken instanceof Turn) return taken;
  if ((await stateOfOwner(taken)) === 'unknown') {
    onWarning({ kind: 'served-elsewhere', storeDir: store.dir });
    return undefined;
  }
  const pid = pidOfOwner(taken);
  if (!publishes) {
    onWarning({ kind: 'served-twice', storeDir: store.dir, pid });
    return undefined;
  }
  throw new NarswarmError(
    'STORE_BUSY',
    `another narswarm daemon (process ${pid}) serves ${store.dir}, and only one may publish it: stop one of them, or give this one another --store`,
    { facts: { path: store.dir, pid } },
  );
}
