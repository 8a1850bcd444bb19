import type { Command } from 'commander';
import type { DeltaMaking } from '../publish/build-publication.ts';
import type { PatchesMade, PatchPair } from '../publish/make-deltas.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { WorkProgress } from './live/work-progress.ts';
import type { Output } from './output.ts';
import { each, formatCount, formatSize } from './words/values.ts';

/** Options of a command that makes patches, as commander gives them. */
export interface MakeDeltasFlags {
  readonly makeDeltas?: boolean;
  readonly against?: readonly StorePath[];
}

/** Adds `--make-deltas`. */
export function addMakeDeltas(command: Command): Command {
  return command.option(
    '--make-deltas',
    'before publishing, make patches between the NARs of this edition and those of the two before: followers that have these fetch less. Takes a second of a processor for 20 MB of changed NARs, once, and room for the patches',
  );
}

/** Adds `--against`. */
export function addAgainst(command: Command): Command {
  return command.option(
    '--against <storepath>',
    'with --make-deltas: make patches between the closure of this path, which is in the store, and the new one, too; may be repeated',
    each(parseStorePath),
  );
}

/** Returns which patches to make, with the progress. Undefined if none. */
export function deltasOf(
  { makeDeltas, against }: MakeDeltasFlags,
  output: Output,
  work: WorkProgress | undefined,
): DeltaMaking | undefined {
  if (makeDeltas !== true) return undefined;
  return {
    against: against ?? [],
    tell: (event) => {
      if (event.type === 'patch-made') work?.add({ nars: 1 });
      else if (event.type === 'bytes-patched') work?.add({ bytes: event.bytes });
      else {
        const { patches: nars, bytes } = event;
        output.note(`making patches for ${formatCount(nars, 'NAR')} (${formatSize(bytes)} before compression)`);
        work?.begin('patching', { nars, bytes });
      }
    },
  };
}

/** Reports the patches that would be made. */
export function tellPatchPlan(output: Output, pairs: readonly PatchPair[]): void {
  const sum = (bytes: (pair: PatchPair) => number): number => pairs.reduce((total, pair) => total + bytes(pair), 0);
  const [narBytes, fileBytes] = [sum(({ info }) => info.narSize), sum(({ info }) => info.fileSize ?? 0)];
  output.result(
    'plan',
    { patches: pairs.length, paths: pairs.map(({ info }) => info.storePath), narBytes, fileBytes },
    pairs.length === 0
      ? 'no patches to make: nothing changed, or all are made'
      : `patches to try for ${formatCount(pairs.length, 'NAR')} (${formatSize(narBytes)} of NARs, ${formatSize(fileBytes)} as files)`,
  );
}

/** Reports the patches that were made. */
export function tellPatched(output: Output, { vain, damaged, ...sums }: PatchesMade): void {
  const { patches, patchBytes, fileBytes } = sums;
  output.result('patched', { ...sums, vain, damaged });
  if (damaged > 0)
    output.warn(
      `no patch for ${formatCount(damaged, 'NAR')}, since a file of this publisher's store is damaged: run narswarm verify --repair with its --store, then publish again`,
    );
  if (patches + vain === 0) return;
  const without = vain === 0 ? '' : `; none for ${formatCount(vain, 'NAR')}, since they would save too little`;
  output.note(`${formatSize(patchBytes)} of patches instead of ${formatSize(fileBytes)}${without}`);
}
