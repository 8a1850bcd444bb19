import { stat } from 'node:fs/promises';
import type { StorePath } from '../nix/brands.ts';
import { isTrusted, type PublicKey } from '../nix/signature.ts';
import { Catalogue } from '../store/catalogue/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import { readState, subscriptionsFolder } from './state/state.ts';
import type { Subscription } from './subscription.ts';

/**
 * Returns the contents of this machine's own hash map if the configuration says `publish`: the newest complete
 * generation of each subscription that says so (under its name if it is one path), and everything that `narswarm add` has
 * added. Nothing else: paths that a machine fetches for itself are private.
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
    // An unsigned or collected path must not keep the others out.
    const info = await store.readNarInfoOf(storePath);
    if (info !== undefined && isTrusted(info, keys)) unnamed.push(storePath);
  }
  return { named, unnamed };
}

/**
 * Returns a value that changes whenever {@link publishedContents} may have changed. It is cheap enough to be read every
 * second.
 */
export async function contentsVersion(store: FileStore, catalogue: Catalogue): Promise<string> {
  const states = await stat(subscriptionsFolder(store)).catch(() => undefined);
  return `${catalogue.size} ${catalogue.addedCount} ${states?.mtimeMs ?? 0}`;
}
