/** The figures of local networks as text for people. */

import { spread, type Spread } from './figures.ts';

/** The outcome of a machine. */
export interface LanRun {
  readonly seconds: number;
  readonly peerBytes: number;
  readonly upstreamBytes: number;
  /** The reason if it does not have everything. */
  readonly failure: string | undefined;
}

export interface LanResult {
  readonly name: string;
  /** The outcomes of the rounds by itself, and with --peer given by hand. */
  readonly alone: readonly LanRun[];
  readonly byHand: readonly LanRun[];
}

/** Targets: the share of bytes from neighbours, and the time divided by that with --peer. */
const WANTED = { share: 0.97, time: 1.2 };

/** A table with one line a situation: the worst share, and the median and the worst time of all rounds. */
export function formatLan(
  results: readonly (LanResult & { readonly number: number })[],
  totalBytes: number,
  lineKbit: number,
): string {
  const lineS = (totalBytes * 8) / (lineKbit * 1000);
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(1).padStart(10);
  const width = Math.max(...results.map(({ name }) => name.length));
  const lines = results.map((result) => {
    const { number, name, alone, byHand } = result;
    const bytes = [Math.min(...alone.map((run) => run.peerBytes)), Math.max(...alone.map((run) => run.upstreamBytes))];
    const [own, told] = [spreadOf(alone), spreadOf(byHand)];
    const times = [own.median, own.max, told.median, told.max];
    const ratio = (own.median / told.median).toFixed(2).padStart(8);
    const failure = [...alone, ...byHand].find((run) => run.failure !== undefined)?.failure;
    const verdict = failure ?? (isMet(result) ? 'met' : 'MISSED');
    const columns = [...bytes.map(mb), ...times.map((seconds) => seconds.toFixed(2).padStart(10)), ratio];
    return `${number} ${name.padEnd(width)}${columns.join('')}  ${verdict}`;
  });
  const titles = ['neighb. MB', 'cache MB', 's', 'worst', '--peer s', 'worst'].map((title) => title.padStart(10));
  const columns = `${''.padEnd(width + 2)}${titles.join('')}${'ratio'.padStart(8)}`;
  const head = `${(totalBytes / 1e6).toFixed(1)} MB; the cache alone would take ${lineS.toFixed(1)} s`;
  const time = `the median within ${WANTED.time} times of that with --peer, the worst within that of its worst`;
  const wanted = `wanted: in each round ${100 * WANTED.share} % from neighbours; ${time}`;
  return [head, columns, ...lines, wanted].join('\n');
}

/** Formats a run in a few words. */
export function formatRun(run: LanRun | undefined): string {
  if (run === undefined) return 'not run';
  const { seconds, peerBytes, upstreamBytes, failure } = run;
  const [peers, upstream] = [peerBytes, upstreamBytes].map((bytes) => (bytes / 1e6).toFixed(1));
  return failure ?? `${seconds.toFixed(2)} s, ${peers} MB from neighbours, ${upstream} MB from the cache`;
}

/** Returns true if a situation reaches its targets. */
export function isMet({ alone, byHand }: LanResult): boolean {
  const isNear = alone.every((run) => run.peerBytes >= WANTED.share * (run.peerBytes + run.upstreamBytes));
  const hasAll = [...alone, ...byHand].every((run) => run.failure === undefined);
  const [own, told] = [spreadOf(alone), spreadOf(byHand)];
  const isFast = own.median <= WANTED.time * told.median && own.max <= WANTED.time * told.max;
  return hasAll && isNear && isFast;
}

function spreadOf(runs: readonly LanRun[]): Spread {
  return spread(runs.map(({ seconds }) => seconds)) ?? { median: NaN, min: NaN, max: NaN };
}
