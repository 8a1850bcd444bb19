import { stat } from 'node:fs/promises';
import type { StorePath } from '../nix/brands.ts';
import { isTrusted, type PublicKey } from '../nix/signature.ts';
import { Catalogue } from '../store/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import { readState, subscriptionsFolder } from './state.ts';
import type { Subscription } from './subscription.ts';

/**
 * What this machine's own hash map is of where the configuration says `publish`: the subscriptions that say so, each under
 * its name where it is one path, of each the newest generation that is complete; and what `narswarm add` has exported.
 * Nothing else: what a machine fetches for itself is nobody's business.
 */
export async function publishedContents(
  store: FileStore,
  subscriptions: readonly Subscription[],
  keys: readonly PublicKey[],
): Promise<{ named: Map<string, StorePath>; unnamed: StorePath[] }> {
  const named = new Map<string, StorePath>();
  const unnamed: StorePath[] = [];
  for (const { name, publish } of subscriptions) {
    if (!publish) continue;
    const state = await readState(store, name);
    const { main, roots = [] } = state?.generations.find(({ complete }) => complete) ?? {};
    if (main !== undefined) named.set(name, main);
    unnamed.push(...roots.filter((root) => root !== main));
  }
  for (const { storePath, askedBy } of (await Catalogue.open(store)).entries()) {
    if (askedBy !== 'add') continue;
    // One that nobody has signed, or that gc has taken, must not keep the others out.
    const info = await store.readNarInfoOf(storePath);
    if (info !== undefined && isTrusted(info, keys)) unnamed.push(storePath);
  }
  return { named, unnamed };
}

/** Changes whenever {@link publishedContents} may have: cheap enough to be looked at every second. */
export async function contentsVersion(store: FileStore, catalogue: Catalogue): Promise<string> {
  const states = await stat(subscriptionsFolder(store)).catch(() => undefined);
  return `${catalogue.size} ${states?.mtimeMs ?? 0}`;
}
