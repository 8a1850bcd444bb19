import { Command } from 'commander';
import { subscriptionNamed } from '../config/load.ts';
import { defaultStoreDir } from '../config/locations.ts';
import type { SubscriptionStatus } from '../subscription/status.ts';
import type { Output } from './output.ts';
import { command, type CommonOptions } from './run-command.ts';
import { addCommon } from './shared-options.ts';
import { formatCount, formatDuration, formatSize } from './values.ts';

interface StatusFlags extends CommonOptions {
  readonly store: string;
}

/** Missing paths that are shown to people; with --json all that are known are there. */
const SHOWN_MISSING = 5;

export function statusCommand(): Command {
  const status = new Command('status')
    .description('say of each subscription whether it is complete, as of when, and what is missing')
    .argument('[name...]', 'subscription (default: all)')
    .option('--store <dir>', 'file store that updates fill', defaultStoreDir());
  addCommon(status, ['narswarm status', 'narswarm status desktop --json'], ['STORE']);
  return status.action(
    command<StatusFlags, [readonly string[]]>(async ({ output, options, config: load }, names) => {
      const config = await load();
      const chosen = names.length === 0 ? config.subscriptions : names.map((name) => subscriptionNamed(config, name));
      const { readStatus } = await import('../subscription/status.ts');
      for (const subscription of chosen) tell(output, await readStatus(subscription, options.store, new Date()));
      if (chosen.length === 0) output.note(`no subscriptions in ${config.path}: narswarm subscribe adds one`);
    }),
  );
}

function tell(output: Output, { subscription, state, map, health }: SubscriptionStatus): void {
  const { name, source } = subscription;
  const [newest] = state?.generations ?? [];
  const facts = {
    name,
    source,
    health,
    completeAsOf: state?.completeAsOf ?? null,
    generation: newest?.number ?? null,
    since: newest?.at ?? null,
    lastRun: state?.lastRun ?? null,
    missing: state?.missing ?? [],
    missingCount: state?.missingCount ?? 0,
    notes: state?.notes ?? [],
    map: map && {
      seq: map.seq,
      created: map.created.toISOString(),
      expires: map.expires.toISOString(),
      isExpired: map.isExpired,
    },
  };
  output.result('status', facts, lines({ subscription, state, map, health }).join('\n'));
}

function* linesOf({ subscription, state, map }: SubscriptionStatus): Generator<string> {
  const run = state?.lastRun;
  const [newest] = state?.generations ?? [];
  if (state === undefined || run === undefined) {
    yield `${subscription.name}: never updated`;
    return;
  }
  const generation = newest === undefined ? '' : ` (generation ${newest.number}, since ${newest.at})`;
  if (run.outcome === 'complete') yield `${subscription.name}: complete as of ${run.at}${generation}`;
  else if (state.completeAsOf === undefined) yield `${subscription.name}: ${run.outcome}, never complete so far`;
  else yield `${subscription.name}: ${run.outcome}; last complete as of ${state.completeAsOf}`;
  yield `  source    ${subscription.source}`;
  const { peers, upstream, store } = run.bytes;
  yield `  last run  ${run.at}, ${formatDuration(run.durationMs)}: ${formatCount(run.nars, 'NAR')}, ${formatSize(peers)} from peers, ${formatSize(upstream)} from caches, ${formatSize(store)} held before`;
  if (map !== undefined)
    yield `  hash map  generation of ${map.created.toISOString()}, ${map.isExpired ? 'expired' : 'valid until'} ${map.expires.toISOString()}`;
  if (run.message !== undefined) yield `  why       ${run.message}`;
  for (const { path, reason } of state.missing.slice(0, SHOWN_MISSING)) yield `  missing   ${path}: ${reason}`;
  if (state.missingCount > SHOWN_MISSING) yield `  missing   ${state.missingCount - SHOWN_MISSING} more`;
  for (const note of state.notes) yield `  note      ${note}`;
}

function lines(status: SubscriptionStatus): string[] {
  return [...linesOf(status)];
}
