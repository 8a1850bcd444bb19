import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import type { FileStore } from '../store/file-store.ts';
import { readState } from './state.ts';
import type { Subscription } from './subscription.ts';

/**
 * What this machine's own hash map is of: the subscriptions that say `publish`, each under its name where it is one path.
 * Of each the newest generation that is complete. Nothing where no subscription says so: then it is all that the store
 * holds.
 *
 * @throws NOT_FOUND where subscriptions say so and none was ever complete: that is no word about all the rest
 */
export async function publishedContents(
  store: FileStore,
  subscriptions: readonly Subscription[],
): Promise<{ named: Map<string, StorePath>; unnamed: StorePath[] }> {
  const named = new Map<string, StorePath>();
  const unnamed: StorePath[] = [];
  for (const { name, publish } of subscriptions) {
    if (!publish) continue;
    const state = await readState(store, name);
    const roots = state?.generations.find(({ complete }) => complete)?.roots ?? [];
    const [only] = roots;
    if (only !== undefined && roots.length === 1) named.set(name, only);
    else unnamed.push(...roots);
  }
  const waiting = subscriptions.flatMap(({ name, publish }) => (publish ? [name] : []));
  if (waiting.length > 0 && named.size + unnamed.length === 0) {
    throw new NarswarmError(
      'NOT_FOUND',
      `nothing can be published yet: of ${waiting.join(', ')} no generation was ever complete (narswarm status tells why)`,
      { facts: { store: store.dir } },
    );
  }
  return { named, unnamed };
}
