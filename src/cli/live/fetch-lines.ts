import type { SenderGroup } from '../../fetch/events.ts';
import type { GroupProgress, Progress } from '../../fetch/report.ts';
import { formatCount, formatSize } from '../words/values.ts';
import type { Line, Span } from './line.ts';
import { lengthOf } from './line.ts';
import type { Room } from './live-lines.ts';
import { formatShare, labelOf, MANY_ROWS, WIDE_COLUMNS, workInWords, workLines, type Work } from './work-lines.ts';

/** The groups of senders, the nearest first. */
const GROUPS: readonly SenderGroup[] = ['neighbours', 'cohort', 'clients', 'caches'];

/** Puts the progress of a fetch into lines: the download, one line for each group of senders, and the import. */
export function fetchLines(progress: Progress, room: Room): Line[] {
  const lines: Line[] = [];
  if (isDownloading(progress)) {
    lines.push(...workLines(workOf(progress), room));
    if (room.rows >= MANY_ROWS)
      for (const [group, sum] of groupsOf(progress)) lines.push(sourceLine(group, sum, room.columns >= WIDE_COLUMNS));
  }
  if (isImporting(progress)) lines.push(importLine(progress, room.columns));
  return lines;
}

/** Puts the progress of a fetch into one line for a log. */
export function fetchInWords(progress: Progress): string {
  const shares = groupsOf(progress).map(
    ([group, { bytes, senders }]) => `, ${formatSize(bytes)} from ${sendersInWords(group, senders.size)}`,
  );
  const imported = progress.copiedPaths === 0 ? '' : `, ${importedInWords(progress)} imported`;
  return `${workInWords(workOf(progress))}${shares.join('')}${imported}`;
}

/** Says how many paths are imported: `12 of 50 paths`. */
export function importedInWords({ copiedPaths, importPaths }: Progress): string {
  const total = formatCount(importPaths ?? copiedPaths, 'path');
  return importPaths === undefined ? total : `${copiedPaths} of ${total}`;
}

/** Returns true while NARs are missing. */
export function isDownloading({ doneNars, totalNars }: Progress): boolean {
  return doneNars < totalNars;
}

/** Names the senders: `3 neighbours`, `2 in the cohort`, `1 cache`. */
export function sendersInWords(group: SenderGroup, count: number): string {
  switch (group) {
    case 'neighbours':
      return formatCount(count, 'neighbour');
    case 'cohort':
      return `${count} in the cohort`;
    case 'clients':
      return formatCount(count, 'client');
    case 'caches':
      return formatCount(count, 'cache');
    default:
      return group satisfies never;
  }
}

/** Returns the groups that have sent something, the nearest first. */
export function groupsOf({ groups }: Progress): (readonly [SenderGroup, GroupProgress])[] {
  return GROUPS.flatMap((group) => {
    const sum = groups.get(group);
    return sum === undefined ? [] : [[group, sum] as const];
  });
}

function workOf(progress: Progress): Work {
  const { doneNars: nars, totalNars, receivedBytes: bytes, totalBytes, rate, steadySecondsLeft } = progress;
  return {
    verb: 'fetching',
    nars,
    totalNars,
    bytes,
    totalBytes,
    rate,
    isAwaited: true,
    secondsLeft: steadySecondsLeft,
  };
}

function sourceLine(group: SenderGroup, { bytes, senders, nars, rate }: GroupProgress, isWide: boolean): Line {
  const size = formatSize(bytes).padStart(8);
  const speed = `${formatSize(rate.rate())}/s`.padStart(10);
  return [
    { text: `  ${sendersInWords(group, senders.size).padEnd(17)}`, style: 'dim' },
    { text: ` ${size} ${speed}` },
    ...(isWide ? [{ text: `  ${formatCount(nars, 'NAR')}` }] : []),
  ];
}

/** Returns true once Nix imports, until it has copied all paths. */
function isImporting({ copiedPaths, importPaths, isImporting: isLast }: Progress): boolean {
  const hasBegun = copiedPaths > 0 || (isLast && importPaths !== undefined);
  return hasBegun && copiedPaths < (importPaths ?? Infinity);
}

function importLine(progress: Progress, columns: number): Line {
  const { copiedPaths, importPaths, lastCopied = '' } = progress;
  const share = importPaths === undefined ? '' : formatShare(copiedPaths, importPaths);
  const line: Span[] = [
    labelOf('importing'),
    { text: share.padStart(5), style: 'cyan' },
    { text: `  ${importedInWords(progress)}` },
  ];
  const name: Span = { text: `  ${lastCopied.slice(lastCopied.lastIndexOf('/') + 34)}`, style: 'dim' };
  return lastCopied !== '' && lengthOf([...line, name]) <= columns ? [...line, name] : line;
}
