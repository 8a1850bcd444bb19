import { createHash } from 'node:crypto';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { MissingPath } from '../fetch/closure.ts';
import { topsOf } from '../fetch/closure.ts';
import type { Upstream } from '../fetch/http/upstream.ts';
import type { PrefetchOptions, PrefetchResult } from '../fetch/prefetch.ts';
import { Progress } from '../fetch/report.ts';
import type { Workplace } from '../fetch/workplace.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { resolveSource, type Resolution } from './resolve-source.ts';
import { parseSource } from './source.ts';
import { isDamaged, readState, writeState, type Generation, type LastRun, type SubscriptionState } from './state.ts';
import { sourceKey, type Subscription } from './subscription.ts';

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
  readonly now: () => Date;
  readonly signal: AbortSignal;
  readonly onWarning: (message: string) => void;
  readonly onStep?: (text: string) => void;
  readonly onPlan?: NonNullable<PrefetchOptions['onPlan']>;
  readonly onProgress?: (progress: Progress) => void;
  readonly onNixLine?: (line: string) => void;
}

/** What one run did for a subscription. */
export interface Updated {
  readonly subscription: Subscription;
  /** As it was written; after a dry run as it was before. Undefined for a dry run before the first run. */
  readonly state: SubscriptionState | undefined;
  /** What it failed of; undefined where it is complete. */
  readonly error: NarswarmError | undefined;
  /** NARs and bytes that were fetched, or would be. */
  readonly nars: number;
  readonly bytes: number;
  readonly paths: number;
}

/** Layers of build inputs that are looked through: those of a NixOS system are some ten deep. */
const MAX_LAYERS = 64;

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
  const progress = new Progress(context.onWarning);
  context.onProgress?.(progress);
  let outcome: Outcome;
  try {
    outcome = await fetchSubscription(subscription, progress, context);
  } catch (error) {
    outcome = { error: asFailure(error, signal), parts: [], notes: [] };
  }
  const summary = summarise(outcome);
  if (context.dryRun) {
    return { subscription, state: last, ...summary };
  }
  const state = nextState(subscription, last, outcome, {
    at: startedAt.toISOString(),
    durationMs: progress.durationMs,
    bytes: {
      store: sum(outcome.parts, ({ plan }) => plan.storeBytes),
      peers: progress.peerBytes,
      upstream: progress.upstreamBytes,
    },
    nars: progress.doneNars,
  });
  // What a damaged record kept is not forgotten before it is known what the source stands for.
  if (outcome.parts.length > 0 || !(await isDamaged(store, subscription.name))) await writeState(store, state);
  if (isNarswarmError(outcome.error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw outcome.error;
  return { subscription, state, ...summary };
}

/** How the fetching of a subscription ended. */
interface Outcome {
  readonly error: NarswarmError | undefined;
  /** One a prefetch: the source itself, then the layers of build inputs that stand in for it. */
  readonly parts: readonly PrefetchResult[];
  readonly notes: readonly string[];
}

async function fetchSubscription(
  subscription: Subscription,
  progress: Progress,
  context: UpdateContext,
): Promise<Outcome> {
  const { workplace, publishers, signal } = context;
  const source = parseSource(subscription.source, { file: subscription.file });
  const fetch = (what: Pick<PrefetchOptions, 'roots' | 'wholeMaps' | 'publishers'>): Promise<PrefetchResult> =>
    workplace.prefetch(
      {
        ...context,
        ...what,
        keepGoing: true,
        copy: subscription.import,
        to: subscription.to,
      },
      { progress, signal },
    );
  if (source.kind === 'publisher') {
    const { address, root } = source;
    const part = await fetch({
      roots: root === undefined ? [] : [root],
      wholeMaps: root === undefined,
      publishers: [address],
    });
    const lack = failureOf(part.missing, part);
    const [silent, wrong] = partition(part.doubts, ({ failure }) => failure.code === 'INDEX_UNREACHABLE');
    const isInterrupted = lack?.code === 'INTERRUPTED';
    return {
      parts: [part],
      notes: silent.map(({ failure, created }) => `${failure.message}; the map of ${created.toISOString()} was taken`),
      // A map that is not what it should be is no map of today, whatever is held of the one from before.
      error: isInterrupted ? lack : (wrong[0]?.failure ?? lack),
    };
  }
  context.onStep?.(`${subscription.name}: resolving ${subscription.source}`);
  const resolution = await resolveSource(source, {
    http: workplace.http,
    files: workplace.store,
    withSources: subscription.sources,
    signal,
  });
  const part = await fetch({ roots: [...new Set([...resolution.roots, ...resolution.sources])], publishers });
  const isOptional = optionalPaths(resolution);
  const lack = part.missing.filter(({ path, isNowhere }) => !isNowhere || !isOptional(path));
  const notes = [...resolution.notes, ...leftOutNote(part.missing.length - lack.length)];
  const roots = new Set<string>(resolution.roots);
  const isReplaceable = lack.length > 0 && lack.every(({ path, isNowhere }) => isNowhere && roots.has(path));
  if (!isReplaceable || resolution.buildInputs.length === 0) {
    return { parts: [part], notes, error: failureOf(lack, part) };
  }
  const layers = await fetchBuildInputs(resolution, (paths) => fetch({ roots: paths, publishers }));
  const missing = layers.missing.filter(({ isNowhere }) => !isNowhere);
  return {
    parts: [part, ...layers.parts],
    notes: [
      ...notes,
      `no cache has ${[...lack].map(({ path }) => path).join(', ')}: what a build of it needs was taken in its place`,
      ...leftOutNote(layers.missing.length - missing.length),
    ],
    error: failureOf(missing, ...layers.parts),
  };
}

/** Sources are what caches may lack; of lists and profiles every path is. */
function optionalPaths({ mayLack, roots, sources }: Resolution): (path: string) => boolean {
  const optional = new Set<string>(mayLack ? [...roots, ...sources] : sources);
  return (path) => optional.has(path);
}

/** Fetches the build inputs, and in place of those that no cache has their own, down to what caches do have. */
async function fetchBuildInputs(
  { buildInputs, buildInputsOf }: Resolution,
  fetch: (paths: readonly StorePath[]) => Promise<PrefetchResult>,
): Promise<{ parts: PrefetchResult[]; missing: MissingPath[] }> {
  const parts: PrefetchResult[] = [];
  const missing: MissingPath[] = [];
  const seen = new Set<StorePath>(buildInputs);
  let layer: readonly StorePath[] = buildInputs;
  for (let depth = 0; layer.length > 0 && depth < MAX_LAYERS; depth++) {
    const part = await fetch(layer);
    parts.push(part);
    const next = new Set<StorePath>();
    for (const lack of part.missing) {
      const inputs = lack.isNowhere && lack.path.startsWith('/') ? await buildInputsOf(parseStorePath(lack.path)) : [];
      if (inputs.length === 0) missing.push(lack);
      for (const path of inputs) if (!seen.has(path)) next.add(path);
    }
    for (const path of next) seen.add(path);
    layer = [...next];
  }
  return { parts, missing };
}

function leftOutNote(count: number): string[] {
  return count === 0 ? [] : [`${count} of its paths are in no cache and were left out`];
}

/** What a run failed of that left something out, or did not import it. */
function failureOf(missing: readonly MissingPath[], ...parts: readonly PrefetchResult[]): NarswarmError | undefined {
  const [first] = missing;
  if (first === undefined) return parts.find(({ importFailure }) => importFailure !== undefined)?.importFailure;
  const isInterrupted = parts.some((part) => part.isInterrupted);
  const more = missing.length > 1 ? `, and ${missing.length - 1} more` : '';
  return new NarswarmError(
    isInterrupted ? 'INTERRUPTED' : first.isNowhere ? 'NARINFO_MISSING' : 'NAR_UNAVAILABLE',
    `${first.path} is missing${more}: ${first.reason}`,
    { facts: { path: first.path, missing: missing.length } },
  );
}

function asFailure(error: unknown, signal: AbortSignal): NarswarmError {
  const failure = signal.aborted ? signal.reason : error;
  if (isNarswarmError(failure)) return failure;
  throw failure;
}

function nextState(
  subscription: Subscription,
  last: SubscriptionState | undefined,
  { error, parts, notes }: Outcome,
  run: Pick<LastRun, 'at' | 'durationMs' | 'bytes' | 'nars'>,
): SubscriptionState {
  const generations =
    parts.length === 0 ? (last?.generations ?? []) : withGeneration(last, parts, error === undefined, run.at);
  const outcome =
    error === undefined
      ? 'complete'
      : error.code === 'INTERRUPTED'
        ? 'interrupted'
        : parts.length === 0
          ? 'failed'
          : 'incomplete';
  const missing = parts.flatMap((part) => part.missing.map(({ path, reason }) => ({ path, reason })));
  const completeAsOf = error === undefined ? run.at : last?.completeAsOf;
  return {
    name: subscription.name,
    source: sourceKey(subscription),
    generations,
    lastRun: { ...run, outcome, ...(error === undefined ? {} : { message: error.message }) },
    ...(completeAsOf === undefined ? {} : { completeAsOf }),
    missing: parts.length === 0 ? (last?.missing ?? []) : error === undefined ? [] : missing,
    missingCount: parts.length === 0 ? (last?.missingCount ?? 0) : error === undefined ? 0 : missing.length,
    notes,
  };
}

/** The generations with this run's: a new one, or the newest with what is held of it by now. */
function withGeneration(
  last: SubscriptionState | undefined,
  parts: readonly PrefetchResult[],
  isComplete: boolean,
  at: string,
): readonly Generation[] {
  const [first] = parts;
  const wanted = createHash('sha256')
    .update((first?.wanted ?? []).toSorted().join('\n'))
    .digest('hex');
  const roots = [...new Set(parts.flatMap(({ closure }) => topsOf(closure)))];
  const [newest, ...older] = last?.generations ?? [];
  if (newest?.wanted !== wanted) {
    const next = { number: (newest?.number ?? 0) + 1, at, wanted, roots, complete: isComplete };
    return newest === undefined ? [next] : [next, newest, ...older];
  }
  // What an earlier run held stays: a cache that is out of reach today makes none of it worse.
  const kept = isComplete ? roots : [...new Set([...roots, ...newest.roots])];
  return [{ ...newest, roots: kept, complete: isComplete || newest.complete }, ...older];
}

function summarise({ error, parts }: Outcome): Pick<Updated, 'error' | 'nars' | 'bytes' | 'paths'> {
  return {
    error,
    nars: sum(parts, ({ plan }) => plan.jobs.length + plan.unsized.length),
    bytes: sum(parts, ({ plan }) => plan.jobBytes),
    paths: sum(parts, ({ closure }) => closure.size),
  };
}

function partition<T>(items: readonly T[], fits: (item: T) => boolean): [fitting: T[], rest: T[]] {
  return [items.filter(fits), items.filter((item) => !fits(item))];
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
