import { firstFailure, isNarswarmError, NarswarmError } from '../errors.ts';
import { failureOf } from '../failure.ts';
import { topsOf } from '../fetch/closure.ts';
import type { Upstream } from '../http/upstream.ts';
import type { PrefetchOptions } from '../fetch/prefetch-options.ts';
import type { PrefetchResult } from '../fetch/prefetch-result.ts';
import type { Tell } from '../fetch/events.ts';
import { Progress } from '../fetch/report.ts';
import { tellBoth } from '../fetch/run-fetch.ts';
import type { Workplace } from '../fetch/workplace.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { RankFiles } from '../index/within-budget.ts';
import { fetchResolution, lackOf, type FetchedResolution } from './fetch-resolution.ts';
import { lostPaths, summaryOf } from './lost.ts';
import { MirrorRoom } from './mirror-room.ts';
import { lackError, type Lack } from './missing.ts';
import type { Note } from './note.ts';
import { nextState, type Outcome } from './next-state.ts';
import { resolveSource } from './resolve-source.ts';
import { parseSource } from './source.ts';
import { isDamaged, MAX_MISSING, readState, writeState, type SubscriptionState } from './state.ts';
import { sourceKey, type Subscription } from './subscription.ts';
import type { FileHash } from '../nix/brands.ts';
import type { Root } from '../store/collect/keep.ts';
import type { Warn } from '../warning.ts';

/** The parts of a run that all updates share. */
export interface UpdateContext {
  readonly workplace: Workplace;
  /**
   * Publishers whose hash maps may know the torrent of any path. The publisher of a subscription itself is asked first.
   */
  readonly publishers: readonly PublisherAddress[];
  readonly upstreams: readonly Upstream[];
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly publisherTimeoutMs: number;
  readonly peerTimeoutMs?: number | undefined;
  readonly dryRun: boolean;
  /** The budget of the store. Not more than this is fetched of a whole map. Undefined: no limit. */
  readonly maxBytes: number | undefined;
  /** Returns the roots that the store keeps for everything except the subscription of that name. */
  readonly rootsBeside: (name: string) => Promise<readonly Root[]>;
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

export interface NarToFetch {
  /** 0 if the size is unknown. */
  readonly sizeBytes: number;
  /** Bytes that are held from earlier runs. */
  readonly partialBytes: number;
}

/** The result of one run for a subscription. */
export interface Updated {
  readonly subscription: Subscription;
  /** The state as written. After a dry run, the state before it; undefined if there is none. */
  readonly state: SubscriptionState | undefined;
  /** The reason why it is incomplete. Undefined if it is complete. */
  readonly error: NarswarmError | undefined;
  /** The missing paths, if they are the error. */
  readonly lack?: Lack | undefined;
  /** Remarks about this run that are not failures. */
  readonly notes: readonly Note[];
  /** Paths that no cache has and that were left out, at most {@link MAX_MISSING}. This is not a failure. */
  readonly leftOut: readonly string[];
  readonly leftOutCount: number;
  /** NARs to fetch, each once, by a key of its own. */
  readonly nars: ReadonlyMap<string, NarToFetch>;
  /** Size in bytes of the NARs that no source delivered, by FileHash. */
  readonly lacking: ReadonlyMap<FileHash, number>;
  readonly paths: number;
}

/** Makes the result of a subscription whose state could not be written. */
export function failedOf(subscription: Subscription, error: NarswarmError): Updated {
  const nothing = {
    notes: [],
    leftOut: [],
    leftOutCount: 0,
    nars: new Map<string, NarToFetch>(),
    lacking: new Map(),
    paths: 0,
  };
  return { subscription, state: undefined, error, ...nothing };
}

/** An outcome, with facts that are reported once and not written to the state. */
type ToldOutcome = Outcome & FetchedResolution;

/**
 * Updates one subscription: resolves its source, fetches new paths, imports them if the subscription says so, and
 * records the result. Fetches as much as possible even if some paths are missing.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE, after writing the state if that is possible. Everything else, an interruption
 *   included, is in the result
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
  let known = before;
  const stateAfter = (result: Outcome): SubscriptionState => {
    const { durationMs, peerBytes: peers, upstreamBytes: upstream, doneNars: nars } = progress;
    const bytes = { store: sum(result.parts, ({ plan }) => plan.storeBytes), peers, upstream };
    const run = { at: startedAt.toISOString(), durationMs, bytes, nars };
    return nextState(subscription, known, result, run, context.configPath);
  };
  const record = async (held: PrefetchResult): Promise<void> => {
    known = withoutOlder(stateAfter({ parts: [held], error: unfinished(), main: undefined, notes: [] }));
    await writeState(store, known);
  };
  let outcome: ToldOutcome;
  try {
    outcome = { parts, ...(await fetchSubscription(subscription, { parts, record }, tell, context)) };
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
  const state = stateAfter(outcome);
  // Does not forget the paths that a damaged state kept before the source is resolved.
  if (outcome.parts.length > 0 || !(await isDamaged(store, subscription.name))) await writeState(store, state);
  if (isNarswarmError(outcome.error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw outcome.error;
  return { subscription, state, ...summary };
}

/** Judges a successful run by what the store holds now, as `status` and `verify` will. */
async function withLost(
  outcome: ToldOutcome,
  { publish, import: imports }: Subscription,
  { workplace, signal }: UpdateContext,
): Promise<ToldOutcome> {
  const roots = outcome.parts.flatMap(({ closure }) => topsOf(closure));
  const { missing, count } = await summaryOf(
    // An orderly stop leaves time for this: most of the work is a stat of each file.
    lostPaths(workplace.store, roots, { holdsAll: publish || !imports, signal: signal.aborted ? undefined : signal }),
  );
  const [first] = missing;
  if (first === undefined) return outcome;
  const lack = { first, count };
  return { ...outcome, lost: missing, error: lackError('STORE_CORRUPT', lack), lack };
}

/**
 * @param to.parts receives the results of fetches, even if something fails afterwards
 * @param to.record records what a mirror holds so far, before older editions are removed
 */
async function fetchSubscription(
  subscription: Subscription,
  { parts, record }: { parts: PrefetchResult[]; record: (held: PrefetchResult) => Promise<void> },
  tell: Tell,
  context: UpdateContext,
): Promise<Omit<ToldOutcome, 'parts'>> {
  const { workplace, publishers, signal } = context;
  const source = parseSource(subscription.source, { file: subscription.file });
  const fetch = async (
    what: Pick<PrefetchOptions, 'roots' | 'wholeMaps' | 'mapBudget' | 'room' | 'publishers'>,
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
        holdAll: subscription.publish, // a hash map lists what the store holds, not what the target has
      },
      { tell, signal },
    );
    parts.push(part);
    return part;
  };
  if (source.kind === 'publisher') {
    const { address, root } = source;
    const part = await fetch(
      root === undefined
        ? { roots: [], wholeMaps: true, publishers: [address], ...(await budgetOf(subscription, record, context)) }
        : { roots: [root], publishers: [address] },
    );
    const main = root === undefined ? undefined : part.roots[0];
    const { error: lackOrImport, lack } = lackOf(part.missing, parts);
    const [usable, wrong] = partition(
      part.doubts,
      ({ from, failure }) => from === 'member' || failure.code === 'INDEX_UNREACHABLE',
    );
    const [silent] = usable;
    return {
      main,
      notes: [
        ...usable.map(({ from, failure, created }) => ({
          kind: `${from}-map` as const,
          failure: failureOf(failure),
          created: created.toISOString(),
        })),
        ...(part.outsized === undefined ? [] : [{ kind: 'outsized' as const, ...part.outsized }]),
      ],
      silence: silent && { reason: failureOf(silent.failure).reason, created: silent.created },
      // A malformed hash map does not count as today's map, whatever is held of the previous one. A member's does.
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

/** Returns what limits the fetch of a whole map. An import needs all of it at once. */
async function budgetOf(
  { name, import: imports }: Subscription,
  record: (held: PrefetchResult) => Promise<void>,
  { workplace, maxBytes, rankFiles, rootsBeside, dryRun, signal, onWarning }: UpdateContext,
): Promise<Pick<PrefetchOptions, 'mapBudget' | 'room'>> {
  if (maxBytes === undefined) return {};
  const { store } = workplace;
  const room = new MirrorRoom({ store, maxBytes, rootsBeside: () => rootsBeside(name), record, signal, onWarning });
  const mapBudget = { maxBytes, rankFiles, kept: await room.kept() };
  return dryRun || imports ? { mapBudget } : { mapBudget, room };
}

/** Returns a state that keeps only the newest generation. */
function withoutOlder(state: SubscriptionState): SubscriptionState {
  return { ...state, generations: state.generations.slice(0, 1) };
}

/** The outcome of a run that is killed between two steps. */
function unfinished(): NarswarmError {
  return new NarswarmError('INTERRUPTED', 'the update did not reach its end: the next one continues');
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
    nars: new Map(parts.flatMap((part) => [...narsOf(part)])),
    lacking: new Map(parts.flatMap((part) => [...lackingOf(part)])),
    paths: sum(parts, ({ closure }) => closure.size),
  };
}

function* narsOf({ plan, begun }: PrefetchResult): Generator<readonly [key: string, nar: NarToFetch]> {
  for (const { fileHash, sizeBytes } of plan.jobs)
    yield [fileHash, { sizeBytes, partialBytes: begun.get(fileHash) ?? 0 }];
  for (const { storePath } of plan.unsized) yield [storePath, { sizeBytes: 0, partialBytes: 0 }];
}

/** Yields the NARs that no source delivered. Those without room are left out: no source can help. */
function* lackingOf({ plan, missing }: PrefetchResult): Generator<readonly [file: FileHash, bytes: number]> {
  const paths = new Set(missing.flatMap(({ path, code }) => (code === 'STORE_OVER_BUDGET' ? [] : path)));
  for (const { fileHash, sizeBytes, storePaths } of plan.jobs)
    if (storePaths.some((path) => paths.has(path))) yield [fileHash, sizeBytes];
}

function partition<T>(items: readonly T[], fits: (item: T) => boolean): [fitting: T[], rest: T[]] {
  return [items.filter(fits), items.filter((item) => !fits(item))];
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
