/** Medians and ratios of what was measured. */
import type { Contestant } from './contestants.ts';
import type { Outcome } from './rounds.ts';

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** One row of the report. The figures are undefined if no run came to its end. */
export interface Row {
  readonly name: string;
  readonly text: string;
  readonly group: Contestant['group'];
  readonly isNarswarm: boolean;
  readonly runs: number;
  readonly failure: string | undefined;
  readonly wallS: Spread | undefined;
  /** User and system, of the client alone. */
  readonly cpuS: Spread | undefined;
  /** Processor time of narswarm's seeder meanwhile. */
  readonly seederCpuS: Spread | undefined;
  /** Milliseconds of the median processor time for each 10^6 bytes of the closure. */
  readonly cpuMsPerMB: number | undefined;
  readonly peakRssBytes: Spread | undefined;
  /** Bytes of the closure a second of the median wall time. */
  readonly rateBytesPerSec: number | undefined;
  /** Median wall time, divided by that of the fastest other program of the group. */
  readonly ratio: number | undefined;
}

type Unrated = Omit<Row, 'ratio'>;

/** One row a contestant, in the same order. */
export function makeRows(outcomes: readonly Outcome[], totalBytes: number): Row[] {
  const rows = outcomes.map(({ contestant, runs, failure }): Unrated => {
    const wallS = spread(runs.map((run) => run.wallS));
    const cpuS = spread(runs.map((run) => run.userS + run.systemS));
    return {
      name: contestant.name,
      text: contestant.text,
      group: contestant.group,
      isNarswarm: contestant.isNarswarm,
      runs: runs.length,
      failure,
      wallS,
      cpuS,
      seederCpuS: spread(runs.map((run) => run.seederCpuS)),
      cpuMsPerMB: cpuS && (cpuS.median * 1e9) / totalBytes,
      peakRssBytes: spread(runs.map((run) => run.peakRssBytes)),
      rateBytesPerSec: wallS && totalBytes / wallS.median,
    };
  });
  return rows.map((row) => Object.assign(row, { ratio: ratioOf(row, rows) }));
}

function ratioOf({ name, group, wallS }: Unrated, rows: readonly Unrated[]): number | undefined {
  const rivals = rows.filter((other) => other.group === group && !other.isNarswarm && other.name !== name);
  const best = Math.min(...rivals.map((rival) => rival.wallS?.median ?? Infinity));
  return wallS && Number.isFinite(best) ? wallS.median / best : undefined;
}

/** @returns undefined if there is no value */
export function spread(values: readonly number[]): Spread | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const [min, max] = [sorted[0], sorted.at(-1)];
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  if (min === undefined || max === undefined || low === undefined || high === undefined) return undefined;
  return { median: (low + high) / 2, min, max };
}
