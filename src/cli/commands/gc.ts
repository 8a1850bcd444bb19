import { Command } from 'commander';
import type { Config } from '../../config/load.ts';
import type { StoreHash } from '../../nix/brands.ts';
import type { FileStore } from '../../store/file-store.ts';
import type { GcResult, Yielding } from '../../store/gc.ts';
import type { KeptOfImported } from '../../subscription/room/kept-of-imported.ts';
import type { SubscriptionState } from '../../subscription/state/state.ts';
import type { Output } from '../output.ts';
import { keepImported } from '../keep-imported.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { defaultStoreDir } from '../../config/locations.ts';
import { parseBudget, parseCount } from '../../config/units.ts';
import { addCommon } from '../options/shared-options.ts';
import { formatCount, formatSize, one } from '../words/values.ts';
import { warningsTo } from '../words/warnings.ts';

interface GcFlags extends CommonOptions {
  readonly store: string;
  readonly maxSize?: number;
  readonly keepImported: KeptOfImported;
  readonly keepGenerations: number;
  readonly dryRun?: boolean;
}

export function gcCommand(): Command {
  const gc = new Command('gc')
    .summary('prune the file store')
    .description(
      'prune the file store to its budget: remove paths that nothing keeps, least recently served first, then paths of mirrors. Pins and all other subscriptions stay',
    )
    .option('--store <dir>', 'file store to prune', defaultStoreDir())
    .option(
      '--max-size <size>',
      'limit for the size of all NARs, such as 50G (default: none; then only leftovers are removed)',
      one(parseBudget),
    )
    .option(
      '--keep-generations <count>',
      'complete generations of each subscription to keep, besides the newest one',
      one(parseCount),
      1,
    )
    .addOption(keepImported())
    .option('-n, --dry-run', 'list the paths that would be removed, and their size');
  addCommon(
    gc,
    ['narswarm gc --max-size 50G', 'narswarm gc --max-size 20G --dry-run', 'narswarm gc --keep-generations 3 --json'],
    ['STORE', 'INTERRUPTED'],
  );
  return gc.action(
    command<GcFlags, []>(async ({ output, signal, options, config: load }) => {
      const { FileStore } = await import('../../store/file-store.ts');
      const { collectGarbage } = await import('../../store/gc.ts');
      const { generationsToKeep } = await import('../../subscription/mirror.ts');
      const { storeRoots } = await import('../../subscription/room/store-roots.ts');
      const { releasingOf } = await import('../../subscription/room/releasing.ts');
      const { listStates } = await import('../../subscription/state/state.ts');
      const { forgetStates } = await import('../../subscription/forget.ts');
      const store = await FileStore.open(options.store, { create: false });
      const dryRun = options.dryRun === true;
      const config = await load();
      const gone = await goneStates(store, config);
      const budget = { configured: config.subscriptions, maxBytes: options.maxSize };
      const keepGenerations = generationsToKeep(options.keepGenerations, budget);
      await using mirrors = await Mirrors.of(store, config, options);
      const forgets = options.maxSize !== undefined && gone.length > 0;
      const tellsEach = dryRun || output.json;
      const result = await collectGarbage({
        store,
        roots: () => storeRoots(store, keepGenerations, new Set(gone.map(({ name }) => name))),
        releasing: releasingOf(options.keepImported, config.subscriptions, await listStates(store)),
        yielding: mirrors.yielding,
        forgotten: forgets ? await storeHashesOf(gone) : undefined,
        maxBytes: options.maxSize,
        dryRun,
        now: new Date(),
        signal,
        onWarning: warningsTo(output),
        onProgress: (files) => output.note(`${files} files read`),
        onRemoved: ({ storePath, bytes, isSole }) => {
          const text = dryRun ? `${storePath}  ${formatSize(bytes)}${isSole ? '  no copy elsewhere' : ''}` : undefined;
          if (tellsEach) output.result('remove', { path: storePath, bytes, isSole, dryRun }, text);
        },
        onLeftover: ({ path, bytes }) => {
          const text = dryRun ? `${path}  ${formatSize(bytes)}` : undefined;
          if (tellsEach) output.result('leftover', { file: path, bytes, dryRun }, text);
        },
      });
      if (forgets && !dryRun && result.obstacles.length === 0) {
        for (const name of await forgetStates(store, gone)) {
          output.result('forgotten', { name });
          output.note(`${name} is no longer subscribed to: paths that only it kept are removed`);
        }
      }
      if (!dryRun) {
        const { pruneBuilds } = await import('../../subscription/room/kept-builds.ts');
        for (const file of await pruneBuilds(store, await listStates(store), new Date()))
          output.note(`${file} is removed: no subscription has found that difference for a week`);
      }
      tell(output, result, options, mirrors);
    }),
  );
}

/** The mirrors of the config file, which give paths up to meet the budget, unless an update is running. */
class Mirrors implements AsyncDisposable {
  /** Undefined if they give nothing up. */
  readonly yielding: Yielding | undefined;
  /** True if there is a mirror. */
  readonly areThere: boolean;
  readonly #turn: AsyncDisposable | undefined;

  private constructor(yielding: Yielding | undefined, areThere: boolean, turn?: AsyncDisposable) {
    this.yielding = yielding;
    this.areThere = areThere;
    this.#turn = turn;
  }

  static async of(store: FileStore, { subscriptions }: Config, { maxSize, dryRun }: GcFlags): Promise<Mirrors> {
    const { yieldingMirrors } = await import('../../subscription/update/yielding.ts');
    const yielding = await yieldingMirrors(store, subscriptions);
    const areThere = yielding.keepers.size > 0;
    if (!areThere || maxSize === undefined) return new Mirrors(undefined, areThere);
    if (dryRun === true) return new Mirrors(yielding, areThere);
    const { Turn } = await import('../../store/turn.ts');
    // A running update would overwrite the states that say what mirrors have given up.
    const turn = await Turn.take(store, 'updating');
    return turn instanceof Turn ? new Mirrors(yielding, areThere, turn) : new Mirrors(undefined, areThere);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turn?.[Symbol.asyncDispose]();
  }
}

/**
 * Returns the states of subscriptions that were removed from the config file: they keep nothing. Under a budget, the
 * paths that only they kept are removed, as at the end of an update. Returns none without a config file: then nobody
 * knows which subscriptions were removed.
 */
async function goneStates(store: FileStore, config: Config): Promise<readonly SubscriptionState[]> {
  if (!config.exists) return [];
  const { goneFrom } = await import('../../subscription/forget.ts');
  const { listStates } = await import('../../subscription/state/state.ts');
  return goneFrom(await listStates(store), { configPath: config.path, configured: config.subscriptions });
}

/** Returns the store hashes that these subscriptions kept. */
async function storeHashesOf(states: readonly SubscriptionState[]): Promise<StoreHash[]> {
  const { rootsOf } = await import('../../subscription/state/state.ts');
  const { storeHashOf } = await import('../../nix/store-path.ts');
  return states.flatMap(({ generations }) => rootsOf(generations).map(storeHashOf));
}

function tell(output: Output, result: GcResult, { maxSize, dryRun = false }: GcFlags, mirrors: Mirrors): void {
  const { removed, leftovers, released, kept, sole, yields, reclaimableBytes, obstacles } = result;
  const isOver = maxSize !== undefined && kept.bytes > maxSize;
  for (const { keeper, paths, bytes } of yields) {
    output.result('yielded', { name: keeper, paths, bytes, dryRun });
    output.note(
      `the mirror ${keeper} ${dryRun ? 'would give' : 'gives'} up ${formatCount(paths, 'path')} (${formatSize(bytes)}) to meet --max-size`,
    );
  }
  output.result(
    'done',
    { dryRun, removed, leftovers, released, kept, sole, reclaimableBytes, maxBytes: maxSize ?? null, isOver },
    [
      `${formatCount(removed.paths, 'path')} (${formatSize(removed.bytes)}) and ${formatCount(leftovers.files, 'leftover file')} (${formatSize(leftovers.bytes)}) ${dryRun ? 'would be removed' : 'removed'}`,
      ...(released.nars === 0
        ? []
        : [
            `${formatCount(released.nars, 'NAR')} (${formatSize(released.bytes)}) ${dryRun ? 'would be let go of' : 'let go of'}: the Nix store has them`,
          ]),
      `${formatCount(kept.paths, 'path')} kept, NARs ${formatSize(kept.bytes)}`,
      ...(sole.kept === 0 ? [] : [`${formatCount(sole.kept, 'NAR')} of them on no other machine`]),
    ].join('\n'),
  );
  if (sole.removed > 0)
    output.warn(
      `${formatCount(sole.removed, 'NAR')} that no other machine holds ${dryRun ? 'would be' : 'were'} removed: raise --max-size to keep them`,
    );
  if (isOver && obstacles.length === 0) {
    const wayOut =
      mirrors.areThere && mirrors.yielding === undefined
        ? 'an update is running, so mirrors gave nothing up: run this again after it'
        : 'raise it, keep fewer generations or unpin paths';
    output.warn(
      `the kept paths take ${formatSize(kept.bytes)}, more than --max-size ${formatSize(maxSize)}: ${wayOut}`,
    );
  }
  if (maxSize === undefined && reclaimableBytes > 0)
    output.note(
      mirrors.areThere
        ? `${formatSize(reclaimableBytes)} is kept by nothing: --max-size frees it before it takes anything from mirrors`
        : `--max-size 0 would free ${formatSize(reclaimableBytes)} that nothing keeps`,
    );
}
