import { isatty } from 'node:tty';
import { Command } from 'commander';
import { subscriptionNamed } from '../../config/load.ts';
import { defaultStoreDir } from '../../config/locations.ts';
import { checkTimeOfDay, parseBudget, parseCount } from '../../config/units.ts';
import { NarswarmError } from '../../errors.ts';
import { canBeReady, READY_NEEDS, sourceInWords, type Subscription } from '../../subscription/subscription.ts';
import type { KeptOfImported } from '../../subscription/room/kept-of-imported.ts';
import type { SubscriptionState } from '../../subscription/state/state.ts';
import { formatEndpoint } from '../../discovery/endpoint.ts';
import { announce } from '../announce.ts';
import type { OriginOf } from '../options/configuration.ts';
import { warnOfIgnoredKeys } from '../options/ignored-keys.ts';
import { openKey } from './key.ts';
import { optimizeLate } from '../start/late-optimizing.ts';
import { WorkProgress } from '../live/work-progress.ts';
import { keepImported } from '../keep-imported.ts';
import { progressDisplay } from '../live/progress-display.ts';
import { addPublishing, tellBuilt, type PublishingFlags } from '../options/publish-options.ts';
import { addMakeDeltas, deltasOf, type MakeDeltasFlags } from '../make-deltas.ts';
import { addRecompression, recompressionOf, type RecompressionFlags } from '../recompression.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon, addNetwork } from '../options/shared-options.ts';
import {
  addImport,
  addSources,
  addYield,
  FETCH_STATUSES,
  metered,
  readSources,
  type SourceFlags,
} from '../options/source-options.ts';
import { timeWindow } from '../options/time-window.ts';
import { tellSwitching } from '../words/switching.ts';
import { tellRun, tellUpdated } from '../words/update-report.ts';
import { formatCount, formatSize, one } from '../words/values.ts';

interface UpdateFlags extends CommonOptions, SourceFlags, PublishingFlags, RecompressionFlags, MakeDeltasFlags {
  readonly store: string;
  readonly until?: string;
  readonly maxSize?: number;
  readonly keepImported: KeptOfImported;
  readonly keepDifferent?: number;
  readonly keepGenerations: number;
  readonly publish?: boolean;
  readonly wait: boolean;
  readonly ready?: boolean;
  readonly dryRun?: boolean;
  readonly onComplete?: string;
}

export function updateCommand(): Command {
  const update = new Command('update')
    .summary('bring subscriptions up to date')
    .description(
      'bring subscriptions up to date: fetch and import new paths, publish this machine’s hash map, prune the file store',
    )
    .argument('[name...]', 'subscription (default: all)')
    .option('--store <dir>', 'file store to keep the NARs in', defaultStoreDir())
    .option(
      '--until <time>',
      'time of day at which to stop, such as 06:00; the next run continues',
      one(checkTimeOfDay),
    )
    .option('--max-size <size>', 'limit for the size of all NARs, such as 50G (default: none)', one(parseBudget))
    .option(
      '--keep-generations <count>',
      'complete generations of each subscription to keep, besides the newest one',
      one(parseCount),
      1,
    )
    .addOption(keepImported())
    .option(
      '--keep-different <size>',
      'with --require: keep the NARs of paths that publishers have built differently, up to this size in all, such as 2G; status tells how to compare them (default: none)',
      one(parseBudget),
    )
    .option(
      '--publish',
      'sign this machine’s own hash map: the subscriptions that say publish, and the paths of narswarm add',
    )
    .option(
      '--on-complete <command>',
      'shell command to run when a subscription has new paths and is complete; it finds them in NARSWARM_ROOTS and on stdin, one a line, beside NARSWARM_SUBSCRIPTION and NARSWARM_GENERATION',
    )
    .option('--ready', 'fetch what a rebuild without a network would lack, too, of all subscriptions that are imported')
    .option('--no-wait', 'fail if another update is running, instead of waiting for it')
    .option('-n, --dry-run', 'list the NARs that would be fetched, and their size');
  addRecompression(update);
  addMakeDeltas(update);
  addPublishing(update);
  addSources(update);
  addImport(update);
  addYield(update);
  update.addOption(
    metered(
      'avoid fetches nothing, keeps what is here and ends with status 130; without this flag, an update whose standard input is a terminal uses the line, since somebody asked for it',
    ),
  );
  addNetwork(update, { scope: 'lan' });
  addCommon(
    update,
    [
      'narswarm update',
      'narswarm update desktop --dry-run',
      'narswarm update lab --ready && narswarm ready /etc/nixos#nixosConfigurations.lab.config.system.build.toplevel',
      'narswarm update --until 06:00 --max-download-rate 2MB/s',
      'narswarm update --yield   # leaves the line to others',
      'narswarm update --require 2 --keep-different 2G; narswarm status   # how to compare what was built differently',
      'narswarm update --json --quiet',
    ],
    [...FETCH_STATUSES, 'HOOK'],
  );
  return update.action(
    command<UpdateFlags, [readonly string[]]>(async ({ output, signal, options, originOf, config: load }, names) => {
      const config = await load();
      const { subscriptions: configured } = config;
      const asked = names.length === 0 ? configured : names.map((name) => subscriptionNamed(config, name));
      const chosen = options.ready === true ? asked.map((each) => withReady(each, names.length > 0)) : asked;
      if (chosen.length === 0) output.note(`no subscriptions in ${config.path}: add one with narswarm subscribe`);
      const sources = await readSources(options, { output, signal, originOf, seeds: chosen.length > 0 });
      if ((options.keepDifferent ?? 0) > 0 && (options.require ?? 1) < 2)
        output.warn('keep-different has nothing to compare: builds are compared with --require 2 (require = 2)');
      await warnOfIgnoredKeys(sources.keys, {
        named: sources.trustedPublicKeys,
        stores: new Set(chosen.filter((subscription) => subscription.import).map(({ to }) => to)),
        signal,
        warn: (text) => output.warn(text),
      });
      const { runUpdate } = await import('../../subscription/update/run-update.ts');
      optimizeLate();
      await using window = timeWindow(options.until, new Date());
      using display = progressDisplay(output);
      using work = new WorkProgress(output);
      const publishes = options.publish === true && options.dryRun !== true;
      const own = publishes ? await openKey(options.key, output) : undefined;
      const states: SubscriptionState[] = [];
      const announced = (): Promise<readonly Error[]> => announce(output, options, states, signal);
      const run = await runUpdate({
        ...sources,
        storeDir: options.store,
        subscriptions: chosen,
        configured,
        forgetOthers: names.length === 0 && config.exists,
        publish: own && {
          key: own.key,
          salt: options.salt,
          validForMs: options.validFor,
          hints: (options.hint ?? []).map(formatEndpoint),
          recompression: recompressionOf(options, output, work),
          deltas: deltasOf(options, output, work),
        },
        maxBytes: options.maxSize,
        keepImported: options.keepImported,
        keepDifferent: options.keepDifferent,
        keepGenerations: options.keepGenerations,
        waits: options.wait,
        dryRun: options.dryRun === true,
        signal,
        window: window.signal,
        avoidsMetered: avoidsMetered(options, originOf),
        debug: (text) => output.debug(text),
        configPath: config.path,
        ...display.handlers,
        onWait: () => {
          output.result('waiting', { store: options.store });
          output.note('another update is running on this store; waiting for it');
        },
        onBegin: (subscription) => output.note(`${subscription.name}: ${sourceInWords(subscription)}`),
        onUpdated: (updated) => {
          display.stop();
          if (updated.state !== undefined) states.push(updated.state);
          tellUpdated(output, updated, options.dryRun === true);
          tellSwitching(output, updated);
        },
        onForgotten: (name) => {
          output.result('forgotten', { name });
          output.note(`${name} is no longer subscribed to: paths that only it kept may be collected`);
        },
        onYielded: ({ keeper, paths, bytes }) => {
          output.result('yielded', { name: keeper, paths, bytes });
          output.note(
            `${keeper} gives up ${formatCount(paths, 'path')} (${formatSize(bytes)}) for other subscriptions, within --max-size`,
          );
        },
        tellHashing: work.tellHashing,
        onPublished: (built) => tellBuilt(output, built),
        onCollected: ({ removed, kept }) => {
          output.result('collected', { removed, kept });
          if (options.maxSize !== undefined && kept.bytes > options.maxSize)
            output.warn(
              `the kept paths take ${formatSize(kept.bytes)}, more than --max-size ${formatSize(options.maxSize)}: raise it, keep fewer generations or unpin paths`,
            );
          if (removed.paths > 0)
            output.note(`${formatCount(removed.paths, 'path')} (${formatSize(removed.bytes)}) collected`);
        },
      }).catch(async (error: unknown) => {
        await announced(); // the night is over, or the disk is full: some may be complete
        throw error;
      });
      const unheard = await announced();
      tellRun(output, run, options.dryRun === true);
      if (unheard.length > 0) throw new NarswarmError('HOOK_FAILED', 'the on-complete command failed');
    }),
  );
}

/** Returns true if no person seems to have asked for this update. A dry run fetches no NAR. */
function avoidsMetered({ metered: what, dryRun }: UpdateFlags, originOf: OriginOf): boolean {
  const isAskedFor = isatty(0) && originOf('metered').source !== 'cli';
  return what === 'avoid' && dryRun !== true && !isAskedFor;
}

/**
 * Makes a subscription ready for rebuilds without a network.
 *
 * @param isNamed true if the user asked for this one: then it must be possible
 * @throws USAGE
 */
function withReady<S extends Subscription>(subscription: S, isNamed: boolean): S {
  if (canBeReady(subscription)) return { ...subscription, ready: true };
  if (!isNamed) return subscription;
  const { name } = subscription;
  throw new NarswarmError(
    'USAGE',
    `--ready needs import = true of ${name} in the config file, and no to: ${READY_NEEDS}`,
  );
}
