import type { Releasing } from '../store/collect/release.ts';
import { NixNars } from '../store/in-nix/nix-nars.ts';
import type { KeptOfImported } from './kept-of-imported.ts';
import type { Subscription } from './subscription.ts';

/**
 * Returns the NARs that may go since the Nix store has their paths. Those of subscriptions that are imported elsewhere,
 * or not at all, stay, and so do those that this machine publishes: followers want these very files.
 */
export function releasingOf(kept: KeptOfImported, configured: readonly Subscription[]): Releasing {
  const imported = configured.filter((one) => one.import && one.to === undefined && !one.publish);
  return {
    when: kept === 'recipe' ? 'always' : 'pressure',
    nars: new NixNars(),
    imported: new Set(imported.map(({ name }) => name)),
  };
}
