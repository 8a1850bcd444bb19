import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { Catalogue } from '../../store/catalogue/catalogue.ts';
import { claimClosure } from '../plan/claim-closure.ts';
import type { Closure } from '../walk/closure.ts';
import { fetchNars, type FetchedNars, type FetchNarsContext } from './fetch-nars.ts';
import { attachTorrents, planFetch } from '../plan/plan.ts';

/**
 * Fetches the NAR of one narinfo into the store, from members, other peers or upstreams, unless it is there already.
 *
 * @returns the narinfo with its actual file; a {@link commit} writes it
 * @throws NAR_UNAVAILABLE; STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function fetchNar(info: NarInfo, context: FetchNarsContext): Promise<NarInfo> {
  const hash = storeHashOf(info.storePath);
  const { closure, failures } = await fetchEach(new Map([[hash, info]]), context);
  context.signal.throwIfAborted();
  for (const failure of failures.values()) throw failure;
  return closure.get(hash) ?? info;
}

/** Fetches the NARs of narinfos that are not in the store. @throws STORE_FULL, STORE_UNWRITABLE at once */
export async function fetchEach(closure: Closure, context: FetchNarsContext): Promise<FetchedNars> {
  const { store, torrentOf, signal } = context;
  const plan = await planFetch(await claimClosure(closure, context), {
    store,
    catalogue: await Catalogue.open(store),
    needed: undefined,
    signal,
  });
  await attachTorrents(plan.jobs, torrentOf);
  return fetchNars(plan, closure, context);
}
