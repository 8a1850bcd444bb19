import { firstFailure, isNarswarmError, NarswarmError } from '../../errors.ts';
import { topsOf } from '../../fetch/walk/closure.ts';
import type { Tell } from '../../fetch/events.ts';
import type { PrefetchResult } from '../../fetch/prefetch-result.ts';
import { Progress } from '../../fetch/report.ts';
import { tellBoth } from '../../fetch/run-fetch.ts';
import type { FileHash, StoreHash, StorePath } from '../../nix/brands.ts';
import { fetchSubscription, type FetchedSource } from './fetch-subscription.ts';
import { addProfileGeneration } from '../../nix/roots/profile.ts';
import { GenerationRoots } from '../room/gc-roots.ts';
import { lostPaths, summaryOf } from '../state/lost.ts';
import { keepBuilds } from '../room/kept-builds.ts';
import { keeperFor } from '../room/room-keeper.ts';
import { lackError, type Lack } from '../state/missing.ts';
import { differencesNote, type DifferencesNote, type Note } from '../state/note.ts';
import { generationNumber, nextState, type Outcome } from '../state/next-state.ts';
import { isDamaged, MAX_MISSING, readState, writeState, type SubscriptionState } from '../state/state.ts';
import { sourceKey, type Subscription } from '../subscription.ts';
import { switchingOf, type Switching } from './switching.ts';
import type { UpdateContext } from './update-context.ts';
import { partialsOf } from '../room/wanted-partials.ts';

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
  /** True if the run added a generation to the subscription's profile. */
  readonly isInProfile?: boolean | undefined;
  /** Changes of a switch from `switchTo`, or why they are unknown. Undefined unless all new paths are known. */
  readonly switching?: Switching | NarswarmError | undefined;
  /** The bytes of each sender. Undefined if nothing was begun. */
  readonly progress?: Progress | undefined;
  /** Names of the partial files that the next run may continue. Undefined if this one could not plan everything. */
  readonly wantedPartials: ReadonlySet<string> | undefined;
}

/** Makes the result of a subscription of which nothing was fetched. */
export function failedOf(subscription: Subscription, error: NarswarmError): Updated {
  const nothing = {
    notes: [],
    leftOut: [],
    leftOutCount: 0,
    nars: new Map<string, NarToFetch>(),
    lacking: new Map(),
    paths: 0,
    wantedPartials: undefined,
  };
  return { subscription, state: undefined, error, ...nothing };
}

/** An outcome, with facts that are reported once and not written to the state. */
type ToldOutcome = Outcome & FetchedSource & Pick<Updated, 'isInProfile'>;

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
  await using keeper = keeperFor(subscription, context);
  const told = tellBoth(progress, context);
  const tell: Tell = (event) => {
    told(event);
    keeper?.tell(event);
  };
  tell({ type: 'begun' });
  const parts: PrefetchResult[] = [];
  let known = before; // or the state that was recorded since
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
  const kept = subscription.import && !context.dryRun ? new GenerationRoots(store, subscription) : undefined;
  let number: number | undefined;
  const beforeImport = async (tops: readonly StorePath[], wanted: readonly StoreHash[]): Promise<void> => {
    number ??= generationNumber(before, sourceKey(subscription), wanted); // all parts are of one generation
    await kept?.keep(number, tops, signal);
  };
  let outcome: ToldOutcome;
  let wantedPartials: ReadonlySet<string> | undefined;
  try {
    const fetched = await fetchSubscription(subscription, { parts, record, beforeImport }, tell, context);
    const differences = differencesNote(parts.flatMap((part) => part.differences));
    const notes = await Promise.all(differences.map((note) => withNars(note, tell, context)));
    outcome = { parts, ...fetched, notes: [...fetched.notes, ...notes] };
    // If some could not be imported, their references were.
    if (number !== undefined && !signal.aborted) await kept?.keep(number, parts.flatMap(topsIn), signal);
    wantedPartials = partialsOf(parts);
  } catch (error) {
    outcome = { parts, error: asFailure(error, signal), main: undefined, notes: [], leftOut: [] };
  }
  if (!context.dryRun && outcome.error === undefined) {
    try {
      outcome = await withLost(outcome, subscription, context);
      outcome = await withProfile(outcome, subscription, signal);
    } catch (error) {
      outcome = { ...outcome, error: asFailure(error, signal) };
    }
  }
  outcome = { ...outcome, notes: [...outcome.notes, ...(kept?.notes ?? [])] };
  const switching = await switchingTo(outcome, subscription, context);
  const summary = { ...summarise(outcome), wantedPartials, progress, switching };
  if (context.dryRun) {
    return { subscription, state: last, ...summary };
  }
  const state = stateAfter(outcome);
  // Does not forget the paths that a damaged state kept before the source is resolved.
  if (outcome.parts.length > 0 || !(await isDamaged(store, subscription.name))) await writeState(store, state);
  if (isNarswarmError(outcome.error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw outcome.error;
  return { subscription, state, ...summary };
}

/** Keeps the NARs of different builds, if that is asked for. */
async function withNars(note: DifferencesNote, tell: Tell, context: UpdateContext): Promise<DifferencesNote> {
  const { workplace, publishers, upstreams, publisherTimeoutMs, peerTimeoutMs, keepDifferent, dryRun } = context;
  if (keepDifferent === undefined || keepDifferent === 0 || dryRun || context.signal.aborted) return note;
  const sources = { publishers, upstreams, publisherTimeoutMs, peerTimeoutMs };
  const differences = await keepBuilds(note.differences, {
    store: workplace.store,
    maxBytes: keepDifferent,
    fetchBuild: (build, signal) => workplace.fetchBuild(build, sources, { tell: onlyWarnings(tell), signal }),
    signal: context.signal,
    onWarning: context.onWarning,
  });
  return { ...note, differences };
}

/** Passes on warnings and failures. The progress is that of the subscription. */
function onlyWarnings(tell: Tell): Tell {
  return (event) => {
    if (event.type === 'warning') tell(event);
  };
}

/** Judges a successful run by the present contents of the store, as `status` and `verify` will. */
async function withLost(
  outcome: ToldOutcome,
  { publish, import: imports }: Subscription,
  { workplace, signal }: UpdateContext,
): Promise<ToldOutcome> {
  const roots = outcome.parts.flatMap(topsIn);
  const { missing, count } = await summaryOf(
    // An orderly stop leaves time for this: most of the work is a stat of each file.
    lostPaths(workplace.store, roots, { holdsAll: publish || !imports, signal: signal.aborted ? undefined : signal }),
  );
  const [first] = missing;
  if (first === undefined) return outcome;
  const lack = { first, count };
  return { ...outcome, lost: missing, error: lackError('STORE_CORRUPT', lack), lack };
}

/** Makes the path that a source stands for the newest generation of the subscription's profile. */
async function withProfile(
  outcome: ToldOutcome,
  { profile, to }: Subscription,
  signal: AbortSignal,
): Promise<ToldOutcome> {
  if (profile === undefined || outcome.error !== undefined) return outcome;
  if (outcome.main === undefined)
    throw new NarswarmError('USAGE', `its source stands for several paths, but ${profile} takes one: subscribe to one`);
  return { ...outcome, isInProfile: await addProfileGeneration(profile, outcome.main, { store: to, signal }) };
}

/** Compares the running system with the new paths. A failure does not fail the update. */
async function switchingTo(
  { error, main, parts }: ToldOutcome,
  subscription: Subscription,
  { workplace, signal }: UpdateContext,
): Promise<Updated['switching']> {
  const { switchTo } = subscription;
  if (switchTo === undefined || error !== undefined) return undefined;
  try {
    const closures = parts.map(({ closure }) => closure);
    const { storeDir } = workplace.store;
    return await switchingOf(switchTo, subscription, main, closures, { storeDir, signal });
  } catch (failure) {
    return asFailure(failure, signal);
  }
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

function summarise({
  error,
  lack,
  parts,
  notes,
  leftOut,
  isInProfile,
}: ToldOutcome): Omit<Updated, 'subscription' | 'state' | 'wantedPartials' | 'progress' | 'switching'> {
  return {
    error,
    lack,
    notes,
    leftOut: leftOut.slice(0, MAX_MISSING),
    leftOutCount: leftOut.length,
    isInProfile,
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

function topsIn({ closure }: PrefetchResult): StorePath[] {
  return topsOf(closure);
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
