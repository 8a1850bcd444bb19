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
 * @throws NOT_FOUND where none of those that say so has been complete so far: the rest of the store is not meant
 */
export async function publishedContents(
  store: FileStore,
  subscriptions: readonly Subscription[],
): Promise<{ named: Map<string, StorePath>; unnamed: StorePath[] }> {
  const named = new Map<string, StorePath>();
  const unnamed: StorePath[] = [];
  const published = subscriptions.filter(({ publish }) => publish);
  for (const { name } of published) {
    const state = await readState(store, name);
    const { main, roots = [] } = state?.generations.find(({ complete }) => complete) ?? {};
    if (main !== undefined) named.set(name, main);
    unnamed.push(...roots.filter((root) => root !== main));
  }
  if (published.length > 0 && named.size + unnamed.length === 0) {
    const names = published.map(({ name }) => name).join(', ');
    throw new NarswarmError(
      'NOT_FOUND',
      `there is nothing to publish yet, since ${names} has not been complete so far: run narswarm update`,
    );
  }
  return { named, unnamed };
}
