import { dirname } from 'node:path';
import { Command } from 'commander';
import { subscriptionNamed } from '../../config/load.ts';
import { defaultStoreDir } from '../../config/locations.ts';
import type { Missing } from '../../subscription/state/missing.ts';
import type { LastRun, SubscriptionState } from '../../subscription/state/state.ts';
import { shownSource, sourceInWords } from '../../subscription/subscription.ts';
import type { Replicas } from '../../store/replicas.ts';
import type { SubscriptionStatus, Uncounted } from '../../subscription/state/status.ts';
import { fittedFacts } from '../words/fitting.ts';
import { throwIncomplete, type Failed } from '../words/incomplete.ts';
import { failureSentence, groupByReason, missingFacts } from '../words/missing-paths.ts';
import { comparisons, differencesIn, noteSentence, twoHistories } from '../words/notes.ts';
import type { Output } from '../output.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';
import { FETCH_STATUSES } from '../options/source-options.ts';
import { tellDaemon } from '../words/running-daemon.ts';
import { whenInWords } from '../words/times.ts';
import { formatCount, formatDuration, formatSize } from '../words/values.ts';

interface StatusFlags extends CommonOptions {
  readonly store: string;
  readonly check?: boolean;
}

/** Limit on reasons and paths shown to people. With --json, all known ones are listed. */
const SHOWN_REASONS = 5;
const SHOWN_PATHS = 5;

const STATE_DAMAGED = 'its state is damaged, so nothing is known of its updates; the next one writes it again';
const UNCOUNTED: Readonly<Record<Uncounted, string>> = {
  'no-daemon': 'not counted: no daemon serves this store',
  pending: 'not counted yet',
  'not-shared': 'not counted: part of it is not shared, or not checked yet, so nobody is asked about it',
};
const AT_WORK = '  note      an update is running on this store';

export function statusCommand(): Command {
  const status = new Command('status')
    .summary('show what is complete, and what the daemon does')
    .description(
      'show whether each subscription is complete, as of when, and which paths are missing; without a name, also what the running daemon does',
    )
    .argument('[name...]', 'subscription (default: all)')
    .option('--store <dir>', 'file store that updates fill', defaultStoreDir())
    .option(
      '--check',
      'exit with the status of the last update if a subscription is not complete, or with 3 if it was never updated',
    );
  addCommon(
    status,
    ['narswarm status', 'narswarm status desktop --json', 'narswarm status --check --quiet >/dev/null'],
    FETCH_STATUSES,
  );
  return status.action(
    command<StatusFlags, [readonly string[]]>(async ({ output, options, config: load }, names) => {
      const config = await load();
      const chosen = names.length === 0 ? config.subscriptions : names.map((name) => subscriptionNamed(config, name));
      const { readStatus } = await import('../../subscription/state/status.ts');
      const failed: Failed[] = [];
      for (const subscription of chosen) {
        const known = await readStatus(subscription, options.store, new Date());
        tell(output, known);
        const { failure, lack } = known;
        if (failure !== undefined)
          failed.push({ name: subscription.name, error: failure, message: failureSentence(failure, lack) });
      }
      if (names.length === 0) await tellDaemon(output, options.store);
      if (chosen.length === 0) output.note(`no subscriptions in ${config.path}: add one with narswarm subscribe`);
      if (options.check === true) throwIncomplete(output, failed, chosen.length);
    }),
  );
}

function tell(output: Output, status: SubscriptionStatus): void {
  const { subscription, state, map, health } = status;
  const { missing, missingCount } = missingOf(status);
  const { name, source } = subscription;
  const [newest] = state?.generations ?? [];
  const facts = {
    name,
    source: shownSource(source),
    health,
    isDamaged: status.isDamaged,
    isUpdating: status.isUpdating,
    completeAsOf: state?.completeAsOf ?? null,
    silentSince: status.silentSince ?? null,
    generation: newest?.number ?? null,
    since: newest?.at ?? null,
    lastRun: lastRunFacts(status),
    missing: missing.map(missingFacts),
    missingCount,
    notes: (state?.notes ?? []).map((note) => noteSentence(note)),
    differences: (state?.notes ?? []).flatMap(differencesIn),
    replicas: status.replicas === undefined ? null : replicaFacts(status.replicas),
    uncounted: status.uncounted ?? null,
    roots: status.roots,
    map: map && {
      seq: map.seq,
      created: map.created.toISOString(),
      expires: map.expires.toISOString(),
      isExpired: map.isExpired,
      twoHistories: map.proof ?? null,
    },
  };
  output.result('status', facts, fittedFacts(output, linesOf(status)));
}

/** Returns the paths that the last run could not get, or that were lost since. */
function missingOf({ state, lost }: SubscriptionStatus): Pick<SubscriptionState, 'missing' | 'missingCount'> {
  if (lost !== undefined && lost.count > 0) return { missing: lost.missing, missingCount: lost.count };
  return { missing: state?.missing ?? [], missingCount: state?.missingCount ?? 0 };
}

/** Yields the lines about a subscription, for people. */
export function* linesOf(status: SubscriptionStatus, now = new Date()): Generator<string> {
  const when = (time: string | Date): string => whenInWords(time, now);
  const { subscription, state, map, lost } = status;
  const { missing, missingCount } = missingOf(status);
  const run = state?.lastRun;
  const [newest] = state?.generations ?? [];
  if (state === undefined || run === undefined) {
    yield `${subscription.name}: ${status.isDamaged ? STATE_DAMAGED : 'never updated'}`;
    if (status.isUpdating) yield AT_WORK;
    return;
  }
  const asOf = when(state.completeAsOf ?? run.at);
  const since = newest === undefined || when(newest.at) === asOf ? '' : `, since ${when(newest.at)}`;
  const generation = newest === undefined ? '' : ` (generation ${newest.number}${since})`;
  if (lost !== undefined && lost.count > 0)
    yield `${subscription.name}: damaged; last complete as of ${asOf}${generation}`;
  else if (run.outcome === 'complete' && map?.isExpired === true)
    yield `${subscription.name}: its hash map has expired; last complete as of ${asOf}${generation}`;
  else if (run.outcome === 'complete' && status.silentSince !== undefined)
    yield `${subscription.name}: its publisher is silent; complete as of ${asOf}${generation}`;
  else if (run.outcome === 'complete') yield `${subscription.name}: complete as of ${asOf}${generation}`;
  else if (state.completeAsOf === undefined) yield `${subscription.name}: ${run.outcome}, never complete so far`;
  else yield `${subscription.name}: ${run.outcome}; last complete as of ${asOf}`;
  yield `  source    ${sourceInWords(subscription)}`;
  yield `  last run  ${when(run.at)}; ${formatDuration(run.durationMs)}: ${broughtInWords(run)}`;
  if (map !== undefined)
    yield `  hash map  edition of ${when(map.created)}; ${map.isExpired ? 'expired' : 'expires'} ${when(map.expires)}`;
  if (map?.proof !== undefined) yield `  history   ${twoHistories(map.proof)}`;
  const { lack, failure } = status;
  const isToldAbove = run.failure === undefined && lack === undefined;
  const isTold = lack !== undefined && isToldBelow(lack.first, missing);
  if (failure !== undefined && !isToldAbove && !isTold) yield `  why       ${failureSentence(failure, lack)}`;
  yield* missingLines(missing, missingCount);
  if (status.replicas !== undefined) yield* replicaLines(status.replicas, when);
  if (status.uncounted !== undefined) yield `  copies    ${UNCOUNTED[status.uncounted]}`;
  yield* rootLines(status);
  for (const note of state.notes) {
    yield `  note      ${noteSentence(note, when)}`;
    for (const line of comparisons(note)) yield `  compare   ${line}`;
  }
  if (status.isUpdating) yield AT_WORK;
}

/** Says what a run has brought, and what was there before it. */
function broughtInWords({ nars, bytes: { peers, upstream, store } }: LastRun): string {
  const parts = [
    nars === 0 ? 'nothing new' : formatCount(nars, 'NAR'),
    ...(peers > 0 ? [`${formatSize(peers)} from peers`] : []),
    ...(upstream > 0 ? [`${formatSize(upstream)} from caches`] : []),
    ...(store > 0 ? [`${formatSize(store)} held before`] : []),
  ];
  return parts.join(', ');
}

/** Yields a line about the links that keep its paths in the Nix store: how many of which generations, and where. */
function* rootLines({ roots }: SubscriptionStatus): Generator<string> {
  const [first] = roots;
  if (first === undefined) return;
  const numbers = [...new Set(roots.map(({ generation }) => generation))];
  const of = `${numbers.length === 1 ? 'generation' : 'generations'} ${numbers.join(', ')}`;
  yield `  gc roots  ${roots.length} of ${of}, in ${dirname(dirname(first.link))}`;
}

function replicaFacts({ at, machines, roots }: Replicas): object {
  return { at, machines, roots };
}

/**
 * Yields the lines about copies on other machines: how many machines hold each root, and which NARs only this one
 * holds.
 */
function* replicaLines({ at, machines, roots }: Replicas, when: (time: string) => string): Generator<string> {
  const asked = `(${formatCount(machines, 'machine')} asked, ${when(at)})`;
  for (const { path, holders } of roots.slice(0, SHOWN_PATHS))
    yield `  copies    ${roots.length === 1 ? '' : `${path}: `}${formatCount(holders, 'other machine')} held all of it ${asked}`;
  if (roots.length > SHOWN_PATHS) yield `              and ${roots.length - SHOWN_PATHS} more roots`;
  const sole = new Map(roots.flatMap((root) => root.sole.map((nar) => [nar.nar, nar] as const)));
  if (machines === 0 || sole.size === 0) return;
  const bytes = [...sole.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const largest = [...sole.values()].toSorted((a, b) => b.sizeBytes - a.sizeBytes);
  const names = largest.slice(0, SHOWN_PATHS).map(({ path }) => nameOf(path));
  yield `  copies    ${formatCount(sole.size, 'NAR')} (${formatSize(bytes)}) only here: ${names.join(', ')}${sole.size > names.length ? ', …' : ''}`;
}

/** Returns the name of a store path, without its hash. */
function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 34);
}

/** Returns the facts of the last run for --json, with its failure in the words of `update`. */
function lastRunFacts({ state, failure: error, lack }: SubscriptionStatus): object | null {
  if (state?.lastRun === undefined) return null;
  const { failure, lack: kept, ...run } = state.lastRun;
  return {
    ...run,
    ...(failure !== undefined && error !== undefined && { message: failureSentence(error, lack), code: failure.code }),
    ...(kept !== undefined && { lack: { path: kept.path, count: kept.count } }),
  };
}

/** Returns true if a path is shown below with its reason, so that it is not named twice. */
export function isToldBelow({ path }: Missing, missing: readonly Missing[]): boolean {
  const shown = groupByReason(missing).slice(0, SHOWN_REASONS);
  return shown.some(({ paths }) => paths.includes(path));
}

/**
 * Yields the missing paths for people, grouped by reason, a few of each.
 *
 * @param count number of missing paths; `missing` may list fewer
 */
export function* missingLines(missing: readonly Missing[], count: number): Generator<string> {
  const groups = groupByReason(missing);
  let told = 0;
  for (const { reason, paths } of groups.slice(0, SHOWN_REASONS)) {
    const [first] = paths;
    told += paths.length;
    if (paths.length === 1) {
      yield `  missing   ${first}: ${reason}`;
      continue;
    }
    yield `  missing   ${formatCount(paths.length, 'path')}: ${reason}`;
    for (const path of paths.slice(0, SHOWN_PATHS)) yield `              ${path}`;
    if (paths.length > SHOWN_PATHS) yield `              and ${paths.length - SHOWN_PATHS} more`;
  }
  if (count > told) yield `  missing   ${formatCount(count - told, 'more path')}`;
}
