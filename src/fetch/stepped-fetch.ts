import type { StoreHash } from '../nix/brands.ts';
import { entriesOf, noteChecked } from '../store/note-checked.ts';
import { completePart, type Closure } from './closure.ts';
import type { Committer } from './commit.ts';
import { fetchNars, type FetchedNars, type FetchNarsContext } from './fetch-nars.ts';
import type { Gathered } from './gathered.ts';
import type { Plan } from './plan.ts';
import { fetchWithinRoom, type Room, type SteppedFetch } from './room.ts';
import type { Roots } from './roots.ts';

/** Time without a byte from any peer until a step ends, if nothing arrived in the one before. */
const FRUITLESS_WAIT_MS = 5_000;

/**
 * Fetches a plan in steps, as {@link fetchWithinRoom} does. After each step, commits the paths that are complete, and
 * makes room for the rest.
 *
 * @param parts.makeRoom removes other paths until the budget is met. Called with the complete part of the closure
 * @throws as {@link fetchNars} and `makeRoom`; STORE_FULL, STORE_UNWRITABLE
 */
export function fetchInSteps(
  roots: Roots,
  plan: Plan,
  download: FetchNarsContext,
  parts: {
    readonly gathered: Gathered;
    readonly committer: Committer;
    readonly room: Room;
    readonly makeRoom: (held: Closure) => Promise<void>;
  },
): Promise<FetchedNars> {
  const { gathered, committer, room, makeRoom } = parts;
  const { store, signal } = download;
  const committed = new Set<StoreHash>();
  const settle: SteppedFetch['settle'] = async (got, later) => {
    if (got !== undefined) gathered.take(got.closure, got.failures);
    const held = completePart(gathered.closure, later);
    const fresh = new Map([...held].filter(([hash]) => !committed.has(hash)));
    await committer.commit(fresh, got?.jobs ?? []);
    for (const hash of fresh.keys()) committed.add(hash);
    if (got !== undefined) await noteChecked(store, await entriesOf(store, got.checked));
    if ((await room.free()) < 0) await makeRoom(held);
    return room.free();
  };
  const { peerTimeoutMs = FRUITLESS_WAIT_MS } = download;
  const brief = { ...download, peerTimeoutMs: Math.min(peerTimeoutMs, FRUITLESS_WAIT_MS) };
  const fetch: SteppedFetch['fetch'] = (step, closure, isFruitless) =>
    fetchNars(step, closure, isFruitless ? brief : download);
  return fetchWithinRoom(plan, gathered.closure, room, { roots: roots.names.keys(), fetch, settle, signal });
}
