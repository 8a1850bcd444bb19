import type { Tell } from '../../fetch/events.ts';
import type { Workplace } from '../../fetch/workplace.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { PublisherAddress } from '../../index/address.ts';
import type { RankFiles } from '../../index/within-budget.ts';
import type { Root } from '../../store/collect/keep.ts';
import type { Yielding } from '../../store/gc.ts';
import type { Warn } from '../../warning.ts';

/** The parts of a run that all updates share. */
export interface UpdateContext {
  readonly workplace: Workplace;
  /**
   * Publishers whose hash maps may know the torrent of any path. The publisher of a subscription itself is asked first.
   */
  readonly publishers: readonly PublisherAddress[];
  /** Publishers that must have a path with the same NarHash. Default: 1, which needs no publisher. */
  readonly require?: number | undefined;
  /** Limit on NARs that are kept of paths with different builds, in bytes. Default: none are kept. */
  readonly keepDifferent?: number | undefined;
  readonly upstreams: readonly Upstream[];
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly publisherTimeoutMs: number;
  readonly peerTimeoutMs?: number | undefined;
  readonly dryRun: boolean;
  /** The budget of the store. Not more than this is fetched of a whole map. Undefined: no limit. */
  readonly maxBytes: number | undefined;
  /** Returns the roots that the store keeps, for everything except the subscription of that name. */
  readonly rootsBeside: (name?: string) => Promise<readonly Root[]>;
  /** Returns the subscriptions that give paths up for others under a budget. */
  readonly yielding: () => Promise<Yielding>;
  /** Ranks the NARs of a map that is larger than the budget. Default: the order of the map. */
  readonly rankFiles?: RankFiles | undefined;
  /** The config file of the subscriptions. Undefined if there is none. */
  readonly configPath?: string | undefined;
  readonly now: () => Date;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  /** Takes the events of the fetches. Each subscription begins with `begun`. */
  readonly tell?: Tell | undefined;
}
