/** The figures of imports as text for people. */
import { spread, type Spread } from './figures.ts';
import type { ImportContestant } from './import-contestants.ts';
import type { NixVersion } from './import-nixes.ts';
import type { Measurement } from './process.ts';

/** All runs of one contestant with one Nix over one line. */
export interface ImportResult {
  readonly rateKbit: number | undefined;
  readonly nix: NixVersion;
  readonly contestant: ImportContestant;
  /** The runs that imported everything. */
  readonly runs: readonly Measurement[];
  /** The reason if there are fewer runs than rounds. */
  readonly failure: string | undefined;
}

/** One row of the report. The figures are undefined without a run. */
export interface ImportRow extends ImportResult {
  readonly wallS: Spread | undefined;
  /** Median wall time, divided by that of `nix copy` of the xz NARs with the same Nix over the same line. */
  readonly ratio: number | undefined;
  /** Median wall time, divided by the time in which the line carries the bytes of its NARs. */
  readonly lineRatio: number | undefined;
  readonly cpuS: Spread | undefined;
  /** Peak memory of all processes together. */
  readonly peakRssBytes: Spread | undefined;
}

const HEAD = ['Nix', '', 'wall s', 'min..max', '/ nix copy', '/ line', 'CPU s', 'RSS MB'];
/** Columns of text. */
const LEFT = 2;

export function makeImportRows(
  results: readonly ImportResult[],
  totalBytes: Readonly<Record<ImportContestant['nars'], number>>,
): ImportRow[] {
  const wallOf = ({ runs }: ImportResult): Spread | undefined => spread(runs.map((run) => run.wallS));
  return results.map((result) => {
    const { rateKbit, nix, contestant, runs } = result;
    const plain = results.find(
      (other) => other.contestant.name === 'nix-copy' && other.rateKbit === rateKbit && other.nix === nix,
    );
    const [wallS, plainS] = [wallOf(result), plain && wallOf(plain)];
    return Object.assign(
      { ...result },
      {
        wallS,
        ratio: wallS && plainS && wallS.median / plainS.median,
        lineRatio: wallS && rateKbit && wallS.median / ((totalBytes[contestant.nars] * 8) / (rateKbit * 1000)),
        cpuS: spread(runs.map((run) => run.userS + run.systemS)),
        peakRssBytes: spread(runs.map((run) => run.peakTreeRssBytes)),
      },
    );
  });
}

/** One table a line. */
export function formatImports(rows: readonly ImportRow[]): string {
  const rates = [...new Set(rows.map(({ rateKbit }) => rateKbit))];
  return rates
    .map((rate) => `${formatRate(rate)}\n${table(rows.filter(({ rateKbit }) => rateKbit === rate))}`)
    .join('\n\n');
}

export function formatRate(rateKbit: number | undefined): string {
  return rateKbit === undefined ? 'no limit' : `${rateKbit / 1000} Mbit/s`;
}

function table(rows: readonly ImportRow[]): string {
  const cells = [HEAD, ...rows.map(cellsOf)];
  const widths = HEAD.map((_, column) =>
    Math.max(...cells.map((row) => (row.length > LEFT + 1 ? (row[column] ?? '').length : 0))),
  );
  return cells
    .map((row) =>
      row
        .map((cell, column) => (column < LEFT ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function cellsOf({ nix, contestant, runs, failure, wallS, ratio, lineRatio, cpuS, peakRssBytes }: ImportRow): string[] {
  const [why] = failure?.split('\n', 1) ?? [];
  if (wallS === undefined || cpuS === undefined || peakRssBytes === undefined)
    return [nix.version, contestant.text, why ?? 'no run'];
  return [
    nix.version,
    why === undefined ? contestant.text : `${contestant.text} (${runs.length} runs, then ${why})`,
    wallS.median.toFixed(2),
    `${wallS.min.toFixed(2)}..${wallS.max.toFixed(2)}`,
    ratio?.toFixed(2) ?? '-',
    lineRatio?.toFixed(2) ?? '-',
    cpuS.median.toFixed(2),
    (peakRssBytes.median / 1e6).toFixed(0),
  ];
}
