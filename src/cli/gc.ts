import { Command } from 'commander';
import type { GcResult } from '../store/gc.ts';
import type { Output } from './output.ts';
import { command, type CommonOptions } from './run-command.ts';
import { defaultStoreDir } from '../config/locations.ts';
import { parseBudget, parseCount } from '../config/units.ts';
import { addCommon } from './shared-options.ts';
import { formatCount, formatSize, one } from './values.ts';

interface GcFlags extends CommonOptions {
  readonly store: string;
  readonly maxSize?: number;
  readonly keepGenerations: number;
  readonly dryRun?: boolean;
}

export function gcCommand(): Command {
  const gc = new Command('gc')
    .description('bring the file store down to its budget: what nothing keeps goes, least recently served first')
    .option('--store <dir>', 'file store to collect', defaultStoreDir())
    .option(
      '--max-size <size>',
      'budget for the NARs, such as 50G (default: none, only leftovers go)',
      one(parseBudget),
    )
    .option(
      '--keep-generations <count>',
      'complete generations of each subscription that stay beside the current one',
      one(parseCount),
      1,
    )
    .option('-n, --dry-run', 'say what would go, and how large it is');
  addCommon(
    gc,
    ['narswarm gc --max-size 50G', 'narswarm gc --max-size 20G --dry-run', 'narswarm gc --keep-generations 3 --json'],
    ['STORE', 'INTERRUPTED'],
  );
  return gc.action(
    command<GcFlags, []>(async ({ output, signal, options }) => {
      const { FileStore } = await import('../store/file-store.ts');
      const { collectGarbage } = await import('../store/gc.ts');
      const { storeRoots } = await import('../subscription/store-roots.ts');
      const store = await FileStore.open(options.store, { create: false });
      const dryRun = options.dryRun === true;
      const tellsEach = dryRun || output.json;
      const result = await collectGarbage({
        store,
        roots: () => storeRoots(store, options.keepGenerations),
        maxBytes: options.maxSize,
        dryRun,
        now: new Date(),
        signal,
        onWarning: (text) => output.warn(text),
        onProgress: (files) => output.note(`${files} files looked at`),
        onRemoved: ({ storePath, bytes }) => {
          const text = dryRun ? `${storePath}  ${formatSize(bytes)}` : undefined;
          if (tellsEach) output.result('remove', { path: storePath, bytes, dryRun }, text);
        },
        onLeftover: ({ path, bytes }) => {
          const text = dryRun ? `${path}  ${formatSize(bytes)}` : undefined;
          if (tellsEach) output.result('leftover', { file: path, bytes, dryRun }, text);
        },
      });
      tell(output, result, options);
    }),
  );
}

function tell(output: Output, result: GcResult, { maxSize, dryRun = false }: GcFlags): void {
  const { removed, leftovers, kept, reclaimableBytes, obstacles } = result;
  const isOver = maxSize !== undefined && kept.bytes > maxSize;
  output.result(
    'done',
    { dryRun, removed, leftovers, kept, reclaimableBytes, maxBytes: maxSize ?? null, isOver },
    [
      `${formatCount(removed.paths, 'path')} (${formatSize(removed.bytes)}) and ${formatCount(leftovers.files, 'leftover file')} (${formatSize(leftovers.bytes)}) ${dryRun ? 'would go' : 'removed'}`,
      `${formatCount(kept.paths, 'path')} kept, NARs ${formatSize(kept.bytes)}`,
    ].join('\n'),
  );
  if (isOver && obstacles.length === 0) {
    output.warn(
      `what has to stay takes ${formatSize(kept.bytes)}, more than --max-size ${formatSize(maxSize)}: raise it, keep fewer generations or unpin something`,
    );
  }
  if (maxSize === undefined && reclaimableBytes > 0)
    output.note(`--max-size 0 would free ${formatSize(reclaimableBytes)} that nothing keeps`);
}
