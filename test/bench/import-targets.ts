/** The targets of the import, compared with its figures. */
import type { NixVersion } from './import-nixes.ts';
import { formatRate, type ImportRow } from './import-report.ts';
import { atMost, type Target } from './targets.ts';

/** Times of the line, at most, if there is a limit. */
const MAX_LINE_RATIO = 1.07;
/** Times of `nix copy`, at most, without a limit. Nix 2.8 copies one path after another. */
const MAX_RATIO = { old: 0.45, newer: 0.92 };
/** The same for zstd NARs, compared with `nix copy` of the xz NARs, with Nix 2.8. */
const MAX_ZSTD_RATIO = 0.25;
const MAX_RSS_MB = 700;

/** Returns the targets that the rows can decide. */
export function importTargetsOf(rows: readonly ImportRow[]): Target[] {
  const ofZstd = rows
    .filter(
      ({ contestant, nix, rateKbit }) => contestant.name === 'narswarm-zstd' && isOld(nix) && rateKbit === undefined,
    )
    .map(({ nix, ratio }) =>
      atMost(`Nix ${nix.version}, no limit: time with zstd NARs / that of nix copy`, MAX_ZSTD_RATIO, ratio ?? NaN),
    );
  const ofXz = rows
    .filter(({ contestant }) => contestant.name === 'narswarm')
    .flatMap(({ rateKbit, nix, ratio, lineRatio, peakRssBytes }) => {
      const where = `Nix ${nix.version}, ${formatRate(rateKbit)}`;
      const maxRatio = isOld(nix) ? MAX_RATIO.old : MAX_RATIO.newer;
      return [
        rateKbit === undefined
          ? atMost(`${where}: time / that of nix copy`, maxRatio, ratio ?? NaN)
          : atMost(`${where}: time / that of the line`, MAX_LINE_RATIO, lineRatio ?? NaN),
        atMost(`${where}: MB of memory`, MAX_RSS_MB, (peakRssBytes?.max ?? NaN) / 1e6),
      ];
    });
  return [...ofXz, ...ofZstd];
}

function isOld({ version }: NixVersion): boolean {
  return version.startsWith('2.8.');
}
