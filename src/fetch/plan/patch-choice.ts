import type { NarInfo } from '../../nix/narinfo.ts';
import { findBases, type BasePlaces, type FoundBase } from './bases.ts';
import type { NarJob } from './job.ts';
import type { NamedDelta } from '../sources/map-records.ts';

/** A NAR that is made out of a base by a patch, instead of being fetched. */
export interface PlannedPatch {
  readonly delta: NamedDelta;
  readonly base: FoundBase;
}

/** Bytes of a NAR a second that one processor makes out of a base: decoded, hashed, and written as zstd (bench:delta). */
const APPLY_RATE = 150e6;
/** Bytes of a base a second, by where it is. Other compressions are as slow as bzip2. */
const NIX_RATE = 500e6;
const RATES: ReadonlyMap<string, number> = new Map([
  ['none', 1000e6],
  ['zstd', 400e6],
  ['xz', 80e6],
]);
const OTHER_RATE = 30e6;
/** Rate of the line, in bytes a second, if nothing is known of it. */
export const USUAL_LINE_RATE = 12.5e6;

/**
 * Chooses the NARs for which a patch is sooner than the whole file: the bytes that it saves take the line longer than the
 * patch takes a processor.
 *
 * @param context.deltasOf returns the patches that hash maps name for a NAR
 * @param context.lineRate bytes a second that the line brings
 */
export async function choosePatches(
  jobs: readonly NarJob[],
  context: BasePlaces & {
    readonly deltasOf: (info: NarInfo) => Promise<readonly NamedDelta[]>;
    readonly lineRate: number;
  },
): Promise<Map<NarJob, PlannedPatch>> {
  const named = new Map<NarJob, readonly NamedDelta[]>();
  for (const job of jobs) {
    if (job.isDisputed === true) continue;
    const deltas = (await context.deltasOf(job.info)).filter(({ torrent }) => torrent.sizeBytes < job.sizeBytes);
    if (deltas.length > 0) named.set(job, deltas);
  }
  const bases = await findBases([...named.values()].flat(), context);
  const chosen = new Map<NarJob, PlannedPatch>();
  for (const [job, deltas] of named) {
    const [best] = deltas
      .flatMap((delta) => ({ delta, base: bases.get(delta) }))
      .filter((patch): patch is PlannedPatch => patch.base !== undefined)
      .map((patch) => ({ patch, gainMs: gainOf(patch, job, context.lineRate) }))
      .filter(({ gainMs }) => gainMs > 0)
      .toSorted((a, b) => b.gainMs - a.gainMs);
    if (best !== undefined) chosen.set(job, best.patch);
  }
  return chosen;
}

/** Returns the time that a patch saves, in milliseconds. */
function gainOf({ delta, base }: PlannedPatch, { sizeBytes, info }: NarJob, lineRate: number): number {
  const baseRate = base.from === 'nix' ? NIX_RATE : (RATES.get(base.from.compression) ?? OTHER_RATE);
  const workSeconds = info.narSize / APPLY_RATE + delta.baseNarSize / baseRate;
  return 1000 * ((sizeBytes - delta.torrent.sizeBytes) / lineRate - workSeconds);
}
