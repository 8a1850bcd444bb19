import { createHash } from 'node:crypto';
import type { NarswarmError } from '../../errors.ts';
import { failureOf } from '../../failure.ts';
import { topsOf } from '../../fetch/walk/closure.ts';
import type { PrefetchResult } from '../../fetch/prefetch-result.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { Lack, Missing } from './missing.ts';
import type { Note } from './note.ts';
import { MAX_MISSING, type Generation, type LastRun, type SubscriptionState } from './state.ts';
import { sourceKey, type Subscription } from '../subscription.ts';

/** The result of fetching a subscription. */
export interface Outcome {
  readonly error: NarswarmError | undefined;
  /** The missing paths, if they are the error. */
  readonly lack?: Lack | undefined;
  /** One result per prefetch: the source itself, then the layers of build inputs that replace it. */
  readonly parts: readonly PrefetchResult[];
  /** The path that the source stands for, if it is one path and is held. */
  readonly main: StorePath | undefined;
  readonly notes: readonly Note[];
  /**
   * The reason why the publisher did not confirm the used hash map, and the time of that map. Undefined if it did
   * confirm.
   */
  readonly silence?: { readonly reason: string; readonly created: Date } | undefined;
  /** Paths that the store has lost or holds damaged in spite of the run. */
  readonly lost?: readonly Missing[];
}

/**
 * Returns the state of a subscription after a run. A run without results drops nothing that earlier runs held, even if
 * the source has changed.
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
      ...(error === undefined ? {} : { failure: failureOf(error) }),
      ...(lack === undefined ? {} : { lack: { ...lack.first, count: lack.count } }),
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

/** Returns when a complete run was last confirmed: now, or the time before its publisher fell silent. */
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

/**
 * Returns the number of the generation that these wanted paths begin or continue. A changed source begins with its first
 * generation.
 */
export function generationNumber(
  before: SubscriptionState | undefined,
  source: string,
  wanted: readonly StoreHash[],
): number {
  if (before?.source !== source) return 1;
  const [newest] = before.generations;
  return newest === undefined ? 1 : newest.wanted === keyOf(wanted) ? newest.number : newest.number + 1;
}

function keyOf(wanted: readonly StoreHash[]): string {
  return createHash('sha256').update(wanted.toSorted().join('\n')).digest('hex');
}

/** Returns the generations after this run: a new one, or the newest with the paths that are now held. */
function withGeneration(
  before: SubscriptionState | undefined,
  source: string,
  { error, parts, main: held }: Outcome,
  at: string,
): readonly Generation[] {
  const isComplete = error === undefined;
  const [first] = parts;
  const wanted = keyOf(first?.wanted ?? []);
  const roots = [...new Set(parts.flatMap(({ closure }) => topsOf(closure)))];
  const [newest, ...older] = before?.generations ?? [];
  const main = held === undefined ? {} : { main: held };
  if (newest?.wanted !== wanted || before?.source !== source) {
    // The paths of the source before stay until it is complete.
    const next = {
      number: generationNumber(before, source, first?.wanted ?? []),
      at,
      wanted,
      roots,
      ...main,
      complete: isComplete,
    };
    return newest === undefined ? [next] : [next, newest, ...older];
  }
  // Keeps paths of an earlier run: an unreachable cache makes none of them invalid.
  const kept = isComplete ? roots : [...new Set([...roots, ...newest.roots])];
  return [{ ...newest, roots: kept, ...main, complete: isComplete || newest.complete }, ...older];
}
