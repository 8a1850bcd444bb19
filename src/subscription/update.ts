import { NarswarmError, isNarswarmError, type ErrorCode } from '../errors.ts';
import type { MissingPath } from '../fetch/closure.ts';
import type { Upstream } from '../http/upstream.ts';
import type { Plan } from '../fetch/plan.ts';
import type { PrefetchOptions, PrefetchResult } from '../fetch/prefetch.ts';
import { Progress } from '../fetch/report.ts';
import type { Workplace } from '../fetch/workplace.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { lackSentence, leftOutSentence } from './missing.ts';
import { nextState, type Outcome } from './next-state.ts';
import { resolveSource, type Resolution } from './resolve-source.ts';
import { parseSource } from './source.ts';
import { isDamaged, MAX_MISSING, readState, writeState, type SubscriptionState } from './state.ts';
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
  /** The config file that has the subscriptions, where they are of one. */
  readonly configPath?: string | undefined;
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
  /** Things to know of this run that are no failures. */
  readonly notes: readonly string[];
  /** Those of the notes that are to be seen with `--quiet`, too. */
  readonly warnings: readonly string[];
  /** Paths that are in no cache and were left out, which is no failure; at most {@link MAX_MISSING} of them. */
  readonly leftOut: readonly string[];
  readonly leftOutCount: number;
  /** NARs that were to be fetched, each once: what tells it apart, and its bytes; 0 where nobody says how many. */
  readonly nars: ReadonlyMap<string, number>;
  readonly paths: number;
}

/** An outcome with what is told of it once and not written down. */
interface ToldOutcome extends Outcome {
  /** Those of the notes that nobody expects of such a source. */
  readonly warnings: readonly string[];
  /** Paths that no cache has, where that is no failure; each once. */
  readonly leftOut: readonly string[];
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
  const parts: PrefetchResult[] = [];
  let outcome: ToldOutcome;
  try {
    outcome = { parts, ...(await fetchSubscription(subscription, parts, progress, context)) };
  } catch (error) {
    outcome = { parts, error: asFailure(error, signal), main: undefined, notes: [], warnings: [], leftOut: [] };
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

/** @param parts takes what was fetched, also where something else fails after that */
async function fetchSubscription(
  subscription: Subscription,
  parts: PrefetchResult[],
  progress: Progress,
  context: UpdateContext,
): Promise<Omit<ToldOutcome, 'parts'>> {
  const { workplace, publishers, signal } = context;
  const source = parseSource(subscription.source, { file: subscription.file });
  const fetch = async (what: Pick<PrefetchOptions, 'roots' | 'wholeMaps' | 'publishers'>): Promise<PrefetchResult> => {
    const part = await workplace.prefetch(
      {
        ...context,
        ...what,
        keepGoing: true,
        copy: subscription.import,
        to: subscription.import ? subscription.to : undefined,
        holdAll: subscription.publish, // a map is of what the store holds, not of what the target has
      },
      { progress, signal },
    );
    parts.push(part);
    return part;
  };
  if (source.kind === 'publisher') {
    const { address, root } = source;
    const part = await fetch({
      roots: root === undefined ? [] : [root],
      wholeMaps: root === undefined,
      publishers: [address],
    });
    const main = root === undefined ? undefined : part.roots[0];
    const lack = lackOf(part.missing, parts);
    const [silent, wrong] = partition(part.doubts, ({ failure }) => failure.code === 'INDEX_UNREACHABLE');
    return {
      main,
      notes: silent.map(({ failure, created }) => `${failure.message}; the map of ${created.toISOString()} was taken`),
      // A map that is not what it should be is no map of today, whatever is held of the one from before.
      error: lack?.code === 'INTERRUPTED' ? lack : (wrong[0]?.failure ?? lack),
      warnings: [],
      leftOut: [],
    };
  }
  const resolution = await resolveSource(source, {
    http: workplace.http,
    files: workplace.store,
    withSources: subscription.sources,
    signal,
  });
  const part = await fetch({ roots: [...new Set([...resolution.roots, ...resolution.sources])], publishers });
  const isOptional = optionalPaths(resolution);
  const needed = part.missing.filter(({ path, isNowhere }) => !isNowhere || !isOptional(path));
  // Of a list something may be left out, but not all of it.
  const lack = needed.length === 0 && part.closure.size === 0 ? part.missing : needed;
  const main = part.roots.find((path) => path === resolution.main);
  const { notes } = resolution;
  const roots = new Set<string>(resolution.roots);
  const isReplaceable = lack.length > 0 && lack.every(({ path, isNowhere }) => isNowhere && roots.has(path));
  if (!isReplaceable || resolution.buildInputs.length === 0) {
    return { main, error: lackOf(lack, parts), ...withLeftOut(notes, part.missing, lack, resolution) };
  }
  const inputs = await fetchBuildInputs(resolution, (paths) => fetch({ roots: paths, publishers }));
  const isNothing = parts.every(({ closure }) => closure.size === 0);
  const missing = isNothing ? [...lack, ...inputs] : inputs.filter(({ isNowhere }) => !isNowhere);
  const replaced = `no cache has ${lack.map(({ path }) => path).join(', ')}: what a build of it needs was taken in its place`;
  const optional = part.missing.filter((path) => !lack.includes(path));
  return {
    main,
    error: lackOf(missing, parts),
    ...withLeftOut([...notes, replaced], [...optional, ...inputs], missing, resolution),
  };
}

/**
 * @param absent what could not be had
 * @param missing that of it which is a failure; the rest was left out
 */
function withLeftOut(
  notes: readonly string[],
  absent: readonly MissingPath[],
  missing: readonly MissingPath[],
  { roots, lackNote }: Resolution,
): Pick<ToldOutcome, 'notes' | 'warnings' | 'leftOut'> {
  const failed = new Set(missing.map(({ path }) => path));
  const leftOut = [...new Set(absent.map(({ path }) => path))].filter((path) => !failed.has(path));
  if (leftOut.length === 0) return { notes, warnings: [], leftOut };
  const told = leftOutSentence(leftOut);
  const usual = new Set<string>(lackNote === undefined ? [] : roots);
  return {
    notes: [...notes, ...(lackNote === undefined ? [] : [lackNote]), told],
    warnings: leftOut.every((path) => usual.has(path)) ? [] : [told],
    leftOut,
  };
}

/** Sources are what caches may lack; of lists and profiles every path is. */
function optionalPaths({ mayLack, roots, sources }: Resolution): (path: string) => boolean {
  const optional = new Set<string>(mayLack ? [...roots, ...sources] : sources);
  return (path) => optional.has(path);
}

/**
 * Fetches the build inputs, and in place of those that no cache has their own, down to what caches do have.
 *
 * @returns what could not be had, nor anything in its place
 */
async function fetchBuildInputs(
  { buildInputs, buildInputsOf }: Resolution,
  fetch: (paths: readonly StorePath[]) => Promise<PrefetchResult>,
): Promise<MissingPath[]> {
  const missing: MissingPath[] = [];
  const seen = new Set<StorePath>(buildInputs);
  let layer: readonly StorePath[] = buildInputs;
  for (let depth = 0; layer.length > 0 && depth < MAX_LAYERS; depth++) {
    const part = await fetch(layer);
    const next = new Set<StorePath>();
    for (const lack of part.missing) {
      const inputs = lack.isNowhere && lack.path.startsWith('/') ? await buildInputsOf(parseStorePath(lack.path)) : [];
      if (inputs.length === 0) missing.push(lack);
      for (const path of inputs) if (!seen.has(path)) next.add(path);
    }
    for (const path of next) seen.add(path);
    layer = [...next];
  }
  const reason = `its inputs lie more than ${MAX_LAYERS} layers deep`;
  for (const path of layer) missing.push({ path, reason, isNowhere: false });
  return missing;
}

/** What a run failed of that left something out. */
function lackOf(missing: readonly MissingPath[], parts: readonly PrefetchResult[]): NarswarmError | undefined {
  const [first] = missing;
  if (first === undefined) return parts.find((part) => part.importFailure !== undefined)?.importFailure;
  const isInterrupted = parts.some((part) => part.isInterrupted);
  const code = isInterrupted ? 'INTERRUPTED' : (commonCode(missing) ?? codeWithout(first));
  return new NarswarmError(code, lackSentence(first, missing.length), {
    facts: { path: first.path, missing: missing.length },
  });
}

/** The first path's code where all are missing for failures of its class; undefined where they are not. */
function commonCode(missing: readonly MissingPath[]): ErrorCode | undefined {
  const codes = [...new Set(missing.map((path) => path.code ?? codeWithout(path)))];
  const statuses = new Set(codes.map((code) => new NarswarmError(code, code).exitStatus));
  return statuses.size === 1 ? codes[0] : undefined;
}

function codeWithout({ isNowhere }: MissingPath): ErrorCode {
  return isNowhere ? 'NARINFO_MISSING' : 'NAR_UNAVAILABLE';
}

function asFailure(error: unknown, signal: AbortSignal): NarswarmError {
  const failure = signal.aborted ? signal.reason : error;
  if (isNarswarmError(failure)) return failure;
  throw failure;
}

function summarise({ error, parts, notes, warnings, leftOut }: ToldOutcome): Omit<Updated, 'subscription' | 'state'> {
  return {
    error,
    notes,
    warnings,
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
