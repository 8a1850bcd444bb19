import { firstFailure, isNarswarmError, NarswarmError } from '../errors.ts';
import { failureOf } from '../failure.ts';
import { topsOf } from '../fetch/closure.ts';
import type { Upstream } from '../http/upstream.ts';
import type { Plan } from '../fetch/plan.ts';
import type { PrefetchOptions, PrefetchResult } from '../fetch/prefetch.ts';
import type { Tell } from '../fetch/events.ts';
import { Progress } from '../fetch/report.ts';
import { tellBoth } from '../fetch/run-fetch.ts';
import type { Workplace } from '../fetch/workplace.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { RankFiles } from '../index/within-budget.ts';
import { fetchResolution, lackOf, type FetchedResolution } from './fetch-resolution.ts';
import { lostPaths, summaryOf } from './lost.ts';
import { lackError, type Lack } from './missing.ts';
import type { Note } from './note.ts';
import { nextState, type Outcome } from './next-state.ts';
import { resolveSource } from './resolve-source.ts';
import { parseSource } from './source.ts';
import { isDamaged, MAX_MISSING, readState, writeState, type SubscriptionState } from './state.ts';
import { sourceKey, type Subscription } from './subscription.ts';
import type { Warn } from '../warning.ts';

/** What updates work with, all subscriptions alike. */
export interface UpdateContext {
  readonly workplace: Workplace;
  /** Publishers whose maps may have a torrent of anything; the one that a subscription names is asked first. */
  readonly publishers: readonly PublisherAddress[];
  readonly upstreams: readonly Upstream[];
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly publisherTimeoutMs: number;
  readonly peerTimeoutMs?: number | undefined;
  readonly dryRun: boolean;
  /** The budget of the store: of a whole map no more is fetched. Undefined: all of it. */
  readonly maxBytes: number | undefined;
  /** Ranks the NARs of a map that is larger than the budget. Default: in the order of the map. */
  readonly rankFiles?: RankFiles | undefined;
  /** The config file that has the subscriptions, where they are of one. */
  readonly configPath?: string | undefined;
  readonly now: () => Date;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  /** Takes the events of the fetches, those of each subscription from `begun` on. */
  readonly tell?: Tell | undefined;
}

/** What one run did for a subscription. */
export interface Updated {
  readonly subscription: Subscription;
  /** As it was written; after a dry run as it was before. Undefined for a dry run before the first run. */
  readonly state: SubscriptionState | undefined;
  /** What it failed of; undefined where it is complete. */
  readonly error: NarswarmError | undefined;
  /** The paths that are missing, if that is the error. */
  readonly lack?: Lack | undefined;
  /** Things to know of this run that are no failures. */
  readonly notes: readonly Note[];
  /** Paths that are in no cache and were left out, which is no failure; at most {@link MAX_MISSING} of them. */
  readonly leftOut: readonly string[];
  readonly leftOutCount: number;
  /** NARs that were to be fetched, each once: what tells it apart, and its bytes; 0 where nobody says how many. */
  readonly nars: ReadonlyMap<string, number>;
  readonly paths: number;
}

/** The result of a subscription of which not even the state could be written. */
export function failedOf(subscription: Subscription, error: NarswarmError): Updated {
  const nothing = { notes: [], leftOut: [], leftOutCount: 0, nars: new Map<string, number>(), paths: 0 };
  return { subscription, state: undefined, error, ...nothing };
}

/** An outcome with what is told of it once and not written down. */
type ToldOutcome = Outcome & FetchedResolution;

/**
 * Brings one subscription up to date: finds out what its source stands for now, fetches what is new of it, imports it if
 * it says so, and writes down how that went. What can be had is had even where something is missing.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE, after the state was written where that can be; anything else, an interruption
 *   too, is in the result
 */
export async function updateSubscription(subscription: Subscription, context: UpdateContext): Promise<Updated> {
  const { workplace, signal, now } = context;
  const { store } = workplace;
  const startedAt = now();
  const before = await readState(store, subscription.name);
  const last = before?.source === sourceKey(subscription) ? before : undefined;
  const progress = new Progress();
  const tell = tellBoth(progress, context);
  tell({ type: 'begun' });
  const parts: PrefetchResult[] = [];
  let outcome: ToldOutcome;
  try {
    outcome = { parts, ...(await fetchSubscription(subscription, parts, tell, context)) };
  } catch (error) {
    outcome = { parts, error: asFailure(error, signal), main: undefined, notes: [], leftOut: [] };
  }
  if (!context.dryRun && outcome.error === undefined) {
    try {
      outcome = await withLost(outcome, subscription, context);
    } catch (error) {
      outcome = { ...outcome, error: asFailure(error, signal) };
    }
  }
  const summary = summarise(outcome);
  if (context.dryRun) {
    return { subscription, state: last, ...summary };
  }
  const state = nextState(
    subscription,
    before,
    outcome,
    {
      at: startedAt.toISOString(),
      durationMs: progress.durationMs,
      bytes: {
        store: sum(outcome.parts, ({ plan }) => plan.storeBytes),
        peers: progress.peerBytes,
        upstream: progress.upstreamBytes,
      },
      nars: progress.doneNars,
    },
    context.configPath,
  );
  // What a damaged record kept is not forgotten before it is known what the source stands for.
  if (outcome.parts.length > 0 || !(await isDamaged(store, subscription.name))) await writeState(store, state);
  if (isNarswarmError(outcome.error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw outcome.error;
  return { subscription, state, ...summary };
}

/** Judges a run that went well as `status` and `verify` will: by what the store holds now. */
async function withLost(
  outcome: ToldOutcome,
  { publish, import: imports }: Subscription,
  { workplace, signal }: UpdateContext,
): Promise<ToldOutcome> {
  const roots = outcome.parts.flatMap(({ closure }) => topsOf(closure));
  const { missing, count } = await summaryOf(
    // An orderly stop leaves time for this: most of it is a stat of each file.
    lostPaths(workplace.store, roots, { holdsAll: publish || !imports, signal: signal.aborted ? undefined : signal }),
  );
  const [first] = missing;
  if (first === undefined) return outcome;
  const lack = { first, count };
  return { ...outcome, lost: missing, error: lackError('STORE_CORRUPT', lack), lack };
}

/** @param parts takes what was fetched, also where something else fails after that */
async function fetchSubscription(
  subscription: Subscription,
  parts: PrefetchResult[],
  tell: Tell,
  context: UpdateContext,
): Promise<Omit<ToldOutcome, 'parts'>> {
  const { workplace, publishers, signal } = context;
  const source = parseSource(subscription.source, { file: subscription.file });
  const fetch = async (
    what: Pick<PrefetchOptions, 'roots' | 'wholeMaps' | 'mapBudget' | 'publishers'>,
  ): Promise<PrefetchResult> => {
    const part = await workplace.prefetch(
      {
        ...what,
        upstreams: context.upstreams,
        trustedPublicKeys: context.trustedPublicKeys,
        publisherTimeoutMs: context.publisherTimeoutMs,
        peerTimeoutMs: context.peerTimeoutMs,
        dryRun: context.dryRun,
        keepGoing: true,
        copy: subscription.import,
        looksInto: 'all',
        to: subscription.import ? subscription.to : undefined,
        holdAll: subscription.publish, // a map is of what the store holds, not of what the target has
      },
      { tell, signal },
    );
    parts.push(part);
    return part;
  };
  if (source.kind === 'publisher') {
    const { address, root } = source;
    const part = await fetch({
      roots: root === undefined ? [] : [root],
      wholeMaps: root === undefined,
      mapBudget:
        context.maxBytes === undefined ? undefined : { maxBytes: context.maxBytes, rankFiles: context.rankFiles },
      publishers: [address],
    });
    const main = root === undefined ? undefined : part.roots[0];
    const { error: lackOrImport, lack } = lackOf(part.missing, parts);
    const [silent, wrong] = partition(part.doubts, ({ failure }) => failure.code === 'INDEX_UNREACHABLE');
    return {
      main,
      notes: [
        ...silent.map(({ failure, created }) => ({
          kind: 'kept-map' as const,
          failure: failureOf(failure),
          created: created.toISOString(),
        })),
        ...(part.outsized.length === 0 ? [] : [{ kind: 'outsized' as const, roots: part.outsized }]),
      ],
      silence: silent[0] && { reason: failureOf(silent[0].failure).reason, created: silent[0].created },
      // A map that is not what it should be is no map of today, whatever is held of the one from before.
      ...(wrong[0] === undefined || lackOrImport?.code === 'INTERRUPTED'
        ? { error: lackOrImport, lack }
        : { error: wrong[0].failure }),
      leftOut: [],
    };
  }
  const resolution = await resolveSource(source, {
    http: workplace.http,
    files: workplace.store,
    withSources: subscription.sources,
    realisedPath: (drvPath, output) =>
      workplace.realisedPath(drvPath, output, { upstreams: context.upstreams, signal }),
    signal,
  });
  return fetchResolution(resolution, (roots) => fetch({ roots, publishers }));
}

function asFailure(error: unknown, signal: AbortSignal): NarswarmError {
  const failure = signal.aborted ? signal.reason : firstFailure(error);
  if (failure instanceof NarswarmError) return failure;
  throw failure;
}

function summarise({ error, lack, parts, notes, leftOut }: ToldOutcome): Omit<Updated, 'subscription' | 'state'> {
  return {
    error,
    lack,
    notes,
    leftOut: leftOut.slice(0, MAX_MISSING),
    leftOutCount: leftOut.length,
    nars: new Map(parts.flatMap(({ plan }) => [...narsOf(plan)])),
    paths: sum(parts, ({ closure }) => closure.size),
  };
}

function* narsOf({ jobs, unsized }: Plan): Generator<readonly [key: string, bytes: number]> {
  for (const { fileHash, sizeBytes } of jobs) yield [fileHash, sizeBytes];
  for (const { storePath } of unsized) yield [storePath, 0];
}

function partition<T>(items: readonly T[], fits: (item: T) => boolean): [fitting: T[], rest: T[]] {
  return [items.filter(fits), items.filter((item) => !fits(item))];
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
