/** The figures as text for people. */
import type { Row, Spread } from './figures.ts';
import type { Target } from './targets.ts';

const HEAD = ['', 'wall s', 'min..max', 'MB/s', 'ratio', 'CPU s', 'ms/MB', 'RSS MB'];

/** One line a contestant, a blank one between groups. `ratio` is to the fastest rival of the group. */
export function formatRows(rows: readonly Row[]): string {
  const cells = rows.map(cellsOf);
  const widths = HEAD.map((title, column) =>
    Math.max(title.length, ...cells.filter((row) => row.length > 2).map((row) => row[column]?.length ?? 0)),
  );
  const lines = [HEAD, ...cells].map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))),
  );
  return lines
    .map((line, index) => {
      const isNewGroup = index > 1 && rows[index - 1]?.group !== rows[index - 2]?.group;
      return `${isNewGroup ? '\n' : ''}${line.join('  ').trimEnd()}`;
    })
    .join('\n');
}

/** One line a target: the wanted and the measured figure. */
export function formatTargets(targets: readonly Target[]): string {
  const width = Math.max(...targets.map(({ text }) => text.length));
  return targets
    .map(({ text, wanted, got, isMet }) => {
      const verdict = isMet === undefined ? 'unknown' : isMet ? 'met' : 'MISSED';
      return `${verdict.padEnd(7)}  ${text.padEnd(width)}  wanted ${wanted}, got ${got === undefined ? 'nothing' : digits(got)}`;
    })
    .join('\n');
}

function cellsOf({
  text,
  failure,
  runs,
  wallS,
  cpuS,
  cpuMsPerMB,
  peakRssBytes,
  rateBytesPerSec,
  ratio,
}: Row): string[] {
  if (wallS === undefined || cpuS === undefined || peakRssBytes === undefined) return [text, failure ?? 'no run'];
  return [
    failure === undefined ? text : `${text} (${runs} runs, then ${failure.split('\n', 1)[0]})`,
    wallS.median.toFixed(2),
    range(wallS),
    ((rateBytesPerSec ?? 0) / 1e6).toFixed(0),
    ratio === undefined ? '-' : ratio.toFixed(2),
    cpuS.median.toFixed(2),
    cpuMsPerMB?.toFixed(1) ?? '-',
    (peakRssBytes.median / 1e6).toFixed(0),
  ];
}

function range({ min, max }: Spread): string {
  return `${min.toFixed(2)}..${max.toFixed(2)}`;
}

function digits(value: number): string {
  return value.toFixed(value < 10 ? 2 : 0);
}
