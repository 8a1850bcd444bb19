import { Option, type Command } from 'commander';
import { parseRecompression } from '../config/zstd-level.ts';
import { estimatedBytes as estimate } from '../publish/estimated-bytes.ts';
import type { OtherNar, Recompressed, Recompression } from '../publish/recompress-nars.ts';
import { DEFAULT_ZSTD_LEVEL, MAX_ZSTD_LEVEL } from '../store/export/write-nar.ts';
import type { WorkProgress } from './live/work-progress.ts';
import type { Output } from './output.ts';
import { alreadyHere, formatCount, formatSize, one } from './words/values.ts';

/** Options of a command that compresses NARs again, as commander gives them. */
export interface RecompressionFlags {
  readonly recompress?: Pick<Recompression, 'level'>;
}

/** Adds `--recompress`. */
export function addRecompression(command: Command): Command {
  return command.addOption(
    new Option(
      '--recompress <method>',
      `before publishing, make zstd files of the NARs that are none: zstd, or zstd:LEVEL (1 to ${MAX_ZSTD_LEVEL}; ${DEFAULT_ZSTD_LEVEL} if none is given). Followers import them in a quarter to half of the time of xz, and fetch an eighth more. Replaces the files in the store; the disk holds both until the new ones are published`,
    ).argParser(one(parseRecompression)),
  );
}

/** Returns how to compress NARs again, with its progress. Undefined if they stay as they are. */
export function recompressionOf(
  { recompress }: RecompressionFlags,
  output: Output,
  work: WorkProgress,
): Recompression | undefined {
  if (recompress === undefined) return undefined;
  return {
    ...recompress,
    tell: (event) => {
      if (event.type === 'nar-recompressed') work.add({ nars: 1 });
      else if (event.type === 'bytes-recompressed') work.add({ bytes: event.bytes });
      else {
        const { nars, bytes, keptBytes } = event;
        output.note(
          `compressing ${formatCount(nars, 'NAR')} again, ${formatSize(bytes)} before compression${alreadyHere(keptBytes)}`,
        );
        work.begin('encoding', event);
      }
    },
  };
}

/** Reports the NARs that would be compressed again. */
export function tellRecompressionPlan(output: Output, nars: readonly OtherNar[]): void {
  let [narBytes, fileBytes] = [0, 0];
  for (const { narSize, files } of nars) {
    narBytes += narSize;
    fileBytes += [...files.values()].reduce((sum, size) => sum + size, 0);
  }
  const estimatedBytes = estimate(nars);
  output.result(
    'plan',
    { recompress: nars.length, paths: nars.flatMap(({ infos }) => infos).length, narBytes, fileBytes, estimatedBytes },
    nars.length === 0
      ? 'nothing to compress: all NARs are zstd files'
      : `${formatCount(nars.length, 'NAR')} to compress again (${formatSize(narBytes)} before compression): ${formatSize(fileBytes)} now, about ${formatSize(estimatedBytes)} as zstd; the disk holds both until they are published`,
  );
}

/** Reports the NARs that were compressed again. */
export function tellRecompressed(output: Output, { left, ...sums }: Recompressed): void {
  const { nars, fileBytes, bytes } = sums;
  output.result('recompressed', { ...sums, left });
  if (nars > 0)
    output.note(
      `${formatCount(nars, 'NAR')} compressed again: ${formatSize(fileBytes)} before, ${formatSize(bytes)} now`,
    );
}
