import type { ErrorCode } from '../../errors.ts';
import type { MappingFailure, PortMapping } from '../../discovery/gateway/mapping.ts';
import type { DaemonFacts } from '../facts.ts';
import type { SubscriptionStatus } from '../../subscription/state/status.ts';

/** Time for a new daemon to find hash maps and the DHT. */
const BEGIN_MS = 10 * 60_000;

/** Reasons for which no port has to be mapped. */
const NOTHING_TO_MAP: ReadonlySet<MappingFailure> = new Set(['scope', 'public-address']);

/** Something that is wrong, as a fact. */
export type Problem =
  /** It is not complete, or no longer. One that was never updated waits for its first update. */
  | { readonly kind: 'subscription'; readonly name: string; readonly health: 'incomplete' | 'stale' }
  /** The config file or the file store cannot be read. */
  | { readonly kind: 'unreadable'; readonly code: ErrorCode }
  /** No edition of a followed hash map was found. */
  | { readonly kind: 'map-not-found'; readonly map: string }
  | { readonly kind: 'map-expired'; readonly map: string }
  /** The DHT is used, but no node answers. */
  | { readonly kind: 'dht-silent' }
  /** The router maps no port to this machine, although it should. */
  | { readonly kind: 'port-not-mapped'; readonly reason: MappingFailure; readonly mapping: PortMapping }
  /** This machine's own hash map has expired. */
  | { readonly kind: 'own-map-expired' };

/** Finds the problems of a daemon and its subscriptions. */
export function problemsOf(
  facts: DaemonFacts,
  subscriptions: readonly SubscriptionStatus[],
  now: Date,
): readonly Problem[] {
  const isNew = now.getTime() - Date.parse(facts.startedAt) < BEGIN_MS;
  const isPast = (time: string): boolean => Date.parse(time) < now.getTime();
  const { maps, dht, published, portMapping } = facts;
  return [
    ...subscriptions.flatMap(({ subscription: { name }, health }): Problem[] =>
      health === 'incomplete' || health === 'stale' ? [{ kind: 'subscription', name, health }] : [],
    ),
    ...maps.flatMap(({ address: map, edition }): Problem[] => {
      if (edition === null) return isNew ? [] : [{ kind: 'map-not-found', map }];
      return isPast(edition.expires) ? [{ kind: 'map-expired', map }] : [];
    }),
    ...(dht !== null && dht.nodes === 0 && !isNew ? [{ kind: 'dht-silent' } as const] : []),
    ...(portMapping !== null && portMapping.failure !== null && !isNew && !NOTHING_TO_MAP.has(portMapping.failure)
      ? [{ kind: 'port-not-mapped', reason: portMapping.failure, mapping: portMapping } as const]
      : []),
    ...(published !== null && isPast(published.edition.expires) ? [{ kind: 'own-map-expired' } as const] : []),
  ];
}
