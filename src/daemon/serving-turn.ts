import { NarswarmError } from '../errors.ts';
import type { FileStore } from '../store/file-store.ts';
import { pidOfOwner, stateOfOwner } from '../disk/owner.ts';
import { Turn } from '../store/turn.ts';

/**
 * Takes the turn of serving a store, until it is disposed of. Warns a second daemon on the same store that both offer
 * the same NARs, under two addresses. Refuses a second one that publishes: two would sign two hash maps in turn.
 * Accepts one of another machine or container that shares the folder, since it serves another network.
 *
 * @param options.publishes true if this process signs a hash map of the store
 * @returns undefined if another process has the turn
 * @throws STORE_BUSY; STORE_FULL, STORE_UNWRITABLE
 */
export async function takeServingTurn(
  store: FileStore,
  { publishes, onWarning }: { readonly publishes: boolean; readonly onWarning: (message: string) => void },
): Promise<AsyncDisposable | undefined> {
  const taken = await Turn.take(store, 'serving');
  if (taken instanceof Turn) return taken;
  if ((await stateOfOwner(taken)) === 'unknown') {
    onWarning(`a daemon of another machine or container serves ${store.dir}, too`);
    return undefined;
  }
  const pid = pidOfOwner(taken);
  const message = `another narswarm daemon (process ${pid}) serves ${store.dir}`;
  const wayOut = 'stop one of them, or give this one another --store';
  if (!publishes) {
    onWarning(`${message}, too: ${wayOut}`);
    return undefined;
  }
  throw new NarswarmError('STORE_BUSY', `${message}, and only one may publish it: ${wayOut}`, {
    facts: { path: store.dir, pid },
  });
}
