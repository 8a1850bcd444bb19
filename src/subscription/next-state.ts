import { createHash } from 'node:crypto';
import type { NarswarmError } from '../errors.ts';
import { topsOf } from '../fetch/closure.ts';
import type { PrefetchResult } from '../fetch/prefetch.ts';
import type { StorePath } from '../nix/brands.ts';
import type { Lack, Missing } from './missing.ts';
import { MAX_MISSING, type Generation, type LastRun, type SubscriptionState } from './state.ts';
import { sourceKey, type Subscription } from './subscription.ts';

/** How the fetching of a subscription ended. */
export interface Outcome {
  readonly error: NarswarmError | undefined;
  /** The paths that are missing, if that is the error. */
  readonly lack?: Lack | undefined;
  /** One a prefetch: the source itself, then the layers of build inputs that stand in for it. */
  readonly parts: readonly PrefetchResult[];
  /** The path that the source is, where it is one and held. */
  readonly main: StorePath | undefined;
  readonly notes: readonly string[];
  /** Why the publisher did not confirm the map that was taken, and when that one was made; undefined if it did. */
  readonly silence?: { readonly reason: string; readonly created: Date } | undefined;
  /** Paths that the store has lost or holds damaged in spite of the run. */
  readonly lost?: readonly Missing[];
}

/**
 * What is known of a subscription after a run. Nothing that earlier runs held is given up by a run that found nothing
 * out, also where the source is another one by now.
 *
 * @param before the state before the run
 * @param config the config file that has the subscription
 */
export function nextState(
  subscription: Subscription,
  before: SubscriptionState | undefined,
  outcome: Outcome,
  run: Pick<LastRun, 'at' | 'durationMs' | 'bytes' | 'nars'>,
  config?: string,
): SubscriptionState {
  const { error, lack, parts, notes, silence } = outcome;
  const source = sourceKey(subscription);
  const last = before?.source === source ? before : undefined;
  const base = {
    name: subscription.name,
    source,
    ...(config === undefined ? {} : { config }),
    lastRun: {
      ...run,
      outcome: wordFor(outcome),
      ...(error === undefined ? {} : { message: error.message, code: error.code }),
      ...(lack === undefined ? {} : { lack: { path: lack.first.path, count: lack.count } }),
      ...(silence === undefined ? {} : { silence: silence.reason }),
    },
    notes,
  };
  const completeAsOf = error === undefined ? confirmedAt(run.at, silence, last) : last?.completeAsOf;
  const dated = completeAsOf === undefined ? base : { ...base, completeAsOf };
  if (parts.length === 0) {
    const { missing = [], missingCount = 0 } = last ?? {};
    return { ...dated, generations: before?.generations ?? [], missing, missingCount };
  }
  const lacks = parts.flatMap((part) => part.missing.map(({ isNowhere: _told, ...missing }) => missing));
  const missing = error === undefined ? [] : [...lacks, ...(outcome.lost ?? [])];
  return {
    ...dated,
    generations: withGeneration(before, source, outcome, run.at),
    missing: missing.slice(0, MAX_MISSING),
    missingCount: missing.length,
  };
}

/** When a run that is complete was last confirmed: now, or before its publisher fell silent. */
function confirmedAt(now: string, silence: Outcome['silence'], last: SubscriptionState | undefined): string {
  if (silence === undefined) return now;
  const created = silence.created.toISOString();
  const before = last?.completeAsOf ?? created;
  return before > created ? before : created;
}

function wordFor({ error, parts }: Outcome): LastRun['outcome'] {
  if (error === undefined) return 'complete';
  if (error.code === 'INTERRUPTED') return 'interrupted';
  return parts.length === 0 ? 'failed' : 'incomplete';
}

/** The generations with this run's: a new one, or the newest with what is held of it by now. */
function withGeneration(
  before: SubscriptionState | undefined,
  source: string,
  { error, parts, main: held }: Outcome,
  at: string,
): readonly Generation[] {
  const isComplete = error === undefined;
  const [first] = parts;
  const wanted = createHash('sha256')
    .update((first?.wanted ?? []).toSorted().join('\n'))
    .digest('hex');
  const roots = [...new Set(parts.flatMap(({ closure }) => topsOf(closure)))];
  const [newest, ...older] = before?.generations ?? [];
  const isSameSource = before?.source === source;
  const main = held === undefined ? {} : { main: held };
  if (newest?.wanted !== wanted || !isSameSource) {
    // Of another source it is the first; what the one before held stays until this one is complete.
    const next = {
      number: isSameSource ? (newest?.number ?? 0) + 1 : 1,
      at,
      wanted,
      roots,
      ...main,
      complete: isComplete,
    };
    return newest === undefined ? [next] : [next, newest, ...older];
  }
  // What an earlier run held stays: a cache that is out of reach today makes none of it worse.
  const kept = isComplete ? roots : [...new Set([...roots, ...newest.roots])];
  return [{ ...newest, roots: kept, ...main, complete: isComplete || newest.complete }, ...older];
}
