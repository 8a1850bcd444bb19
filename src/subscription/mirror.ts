import type { PublisherAddress } from '../index/address.ts';
import { parseSource } from './source/source.ts';
import type { SubscriptionState } from './state/state.ts';
import type { Subscription } from './subscription.ts';

/** Returns the hash map that a subscription mirrors. Undefined unless the source is a whole map without an import. */
export function mirrored({ source, file, import: imports }: Subscription): PublisherAddress | undefined {
  const parsed = parseSource(source, { file });
  return !imports && parsed.kind === 'publisher' && parsed.root === undefined ? parsed.address : undefined;
}

/** Returns the number of complete generations to keep for a subscription, besides the newest one. */
export type KeepGenerations = (state: Pick<SubscriptionState, 'name'>) => number;

/**
 * Returns the given number, except for mirrors under a budget: an older generation of a map would take the space of the
 * newer one.
 */
export function generationsToKeep(
  given: number,
  { configured, maxBytes }: { readonly configured: readonly Subscription[]; readonly maxBytes: number | undefined },
): KeepGenerations {
  const mirrors = new Set(
    configured.filter((subscription) => mirrored(subscription) !== undefined).map(({ name }) => name),
  );
  return ({ name }) => (maxBytes !== undefined && mirrors.has(name) ? 0 : given);
}
