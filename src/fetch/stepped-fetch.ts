import type { StoreHash } from '../nix/brands.ts';
import { entriesOf, noteChecked } from '../store/catalogue/note-checked.ts';
import { completePart, type Closure } from './walk/closure.ts';
import type { Committer } from './commit/commit.ts';
import { fetchNars, type FetchedNars, type FetchNarsContext } from './download/fetch-nars.ts';
import type { Tell } from './events.ts';
import type { Gathered } from './gathered.ts';
import type { Plan } from './plan/plan.ts';
import type { StoreRoom } from './prefetch-options.ts';
import { fetchWithinRoom, type SteppedFetch } from './room.ts';
import type { Roots } from './walk/roots.ts';

/** Time without a byte from any peer until a step ends, if nothing arrived in the one before. */
const FRUITLESS_WAIT_MS = 5_000;

/**
 * Fetches a plan in steps, as {@link fetchWithinRoom} does. After each step, commits the paths that are complete, and
 * makes room for the rest. Counts arriving NARs: measuring a store of 100,000 NARs after each step would take a second.
 *
 * @param parts.makeRoom removes other paths until the budget is met, and returns the bytes that it then leaves. Called
 *   with the complete part of the closure
 * @throws as {@link fetchNars} and `makeRoom`; STORE_FULL, STORE_UNWRITABLE
 */
export async function fetchInSteps(
  roots: Roots,
  plan: Plan,
  download: FetchNarsContext,
  parts: {
    readonly gathered: Gathered;
    readonly committer: Committer;
    readonly room: Pick<StoreRoom, 'inFlightBytes' | 'free'>;
    readonly makeRoom: (held: Closure) => Promise<number>;
  },
): Promise<FetchedNars> {
  const { gathered, committer, room, makeRoom } = parts;
  const { store, signal } = download;
  const committed = new Set<StoreHash>();
  let freeBytes = await room.free();
  const tell: Tell = (event) => {
    if (event.type === 'nar-fetched') freeBytes -= event.sizeBytes;
    download.tell(event);
  };
  const settle: SteppedFetch['settle'] = async (got, later) => {
    if (got !== undefined) gathered.take(got.closure, got.failures);
    const held = completePart(gathered.closure, later);
    const fresh = new Map([...held].filter(([hash]) => !committed.has(hash)));
    await committer.commit(fresh, got?.jobs ?? []);
    for (const hash of fresh.keys()) committed.add(hash);
    if (got !== undefined) await noteChecked(store, await entriesOf(store, got.checked));
    if (freeBytes < 0) freeBytes = await makeRoom(held);
    return freeBytes;
  };
  const { peerTimeoutMs = FRUITLESS_WAIT_MS } = download;
  const patient = { ...download, tell };
  const brief = { ...patient, peerTimeoutMs: Math.min(peerTimeoutMs, FRUITLESS_WAIT_MS) };
  const fetch: SteppedFetch['fetch'] = (step, closure, isFruitless) =>
    fetchNars(step, closure, isFruitless ? brief : patient);
  const atStart = { inFlightBytes: room.inFlightBytes, freeBytes };
  return fetchWithinRoom(plan, gathered.closure, atStart, { roots: roots.names.keys(), fetch, settle, signal });
}
