import type { Yield } from '../../store/collect/yields.ts';
import type { FileStore } from '../../store/file-store.ts';
import type { Yielding } from '../../store/gc.ts';
import { mirrored } from '../mirror.ts';
import type { Note } from '../state/note.ts';
import { listStates, readState, writeState, type SubscriptionState } from '../state/state.ts';
import { sourceKey, type Subscription } from '../subscription.ts';

/** Returns the mirrors among the subscriptions, which give paths up for the others. @param onYielded called with each */
export async function yieldingMirrors(
  store: FileStore,
  configured: readonly Subscription[],
  onYielded?: (given: Yield) => void,
): Promise<Yielding> {
  const sources = new Map(
    configured.filter((one) => mirrored(one) !== undefined).map((one) => [one.name, sourceKey(one)]),
  );
  const states = (await listStates(store)).filter(({ name, source }) => sources.get(name) === source);
  return {
    keepers: new Set(states.map(({ name }) => name)),
    record: async (yields) => {
      for (const given of yields) {
        const state = await readState(store, given.keeper);
        if (state === undefined) continue;
        await writeState(store, afterYield(state, given));
        onYielded?.(given);
      }
    },
  };
}

/** Returns the state of a mirror that has given paths up: the rest of the newest generation, with a note. */
export function afterYield(state: SubscriptionState, { roots, paths, bytes }: Yield): SubscriptionState {
  const [newest] = state.generations;
  if (newest === undefined) return state;
  const known = state.notes.find((note) => isOutsized(note));
  const note: Note = {
    kind: 'outsized',
    roots: known?.roots ?? [],
    paths: (known?.paths ?? 0) + paths,
    bytes: (known?.bytes ?? 0) + bytes,
  };
  return {
    ...state,
    generations: [{ ...newest, roots }],
    notes: [...state.notes.filter((one) => !isOutsized(one)), note],
  };
}

function isOutsized(note: Note | string): note is Extract<Note, { kind: 'outsized' }> {
  return typeof note !== 'string' && note.kind === 'outsized';
}
