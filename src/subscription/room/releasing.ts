import type { Releasing } from '../../store/collect/release.ts';
import { NixNars } from '../../store/in-nix/nix-nars.ts';
import type { KeptOfImported } from './kept-of-imported.ts';
import type { SubscriptionState } from '../state/state.ts';
import type { Subscription } from '../subscription.ts';

/**
 * Returns the NARs whose files may be removed, since the Nix store has their paths. Those of subscriptions that are
 * imported elsewhere, or not at all, stay, and so do those that this machine publishes: followers want these files.
 * Without GC roots, Nix may collect the paths, so their files stay, too.
 */
export function releasingOf(
  kept: KeptOfImported,
  configured: readonly Subscription[],
  states: readonly SubscriptionState[],
): Releasing {
  const rootless = new Set(states.flatMap(({ name, notes }) => (notes.some(isOfRoots) ? [name] : [])));
  const imported = configured.filter(
    (one) => one.import && one.to === undefined && !one.publish && !rootless.has(one.name),
  );
  return {
    when: kept === 'recipe' ? 'always' : 'pressure',
    nars: new NixNars(),
    imported: new Set(imported.map(({ name }) => name)),
  };
}

/** Returns true for a note that says why a subscription has no GC roots. */
function isOfRoots(note: SubscriptionState['notes'][number]): boolean {
  return typeof note !== 'string' && (note.kind === 'no-roots' || note.kind === 'remote-roots');
}
