import { formatCount, formatSize } from '../words/values.ts';
import type { Line, Span } from './line.ts';
import type { Room } from './live-lines.ts';
import { leftInWords } from './time-left.ts';

/** Work on NARs, such as a download, at one moment. */
export interface Work {
  /** `fetching`, `hashing` */
  readonly verb: string;
  readonly nars: number;
  readonly totalNars: number;
  readonly bytes: number;
  readonly totalBytes: number;
  /** Bytes a second. */
  readonly rate: number;
  /** True if others send the bytes. */
  readonly isAwaited: boolean;
  /** Undefined if it is unknown. */
  readonly secondsLeft: number | undefined;
}

/** Least room for long lines, and for more than one line about the same. */
export const WIDE_COLUMNS = 64;
export const MANY_ROWS = 8;
const LABEL_COLUMNS = 10;

/** Puts work into one line, or into two where lines are short. */
export function workLines(work: Work, room: Room): Line[] {
  const { verb, nars, totalNars, bytes, totalBytes, rate } = work;
  const done = Math.min(bytes, totalBytes);
  const isWide = room.columns >= WIDE_COLUMNS;
  const numbers: Span[] = [
    { text: formatShare(done, totalBytes).padStart(5), style: 'cyan' },
    { text: `  ${formatPart(done, totalBytes)}` },
    ...(rate === 0 ? [] : [{ text: `  ${formatSize(rate)}/s`, style: 'green' as const }]),
  ];
  const rest = { text: `  ${[`${nars}/${formatCount(totalNars, 'NAR')}`, ...timeOf(work)].join(', ')}` };
  if (isWide) return [[labelOf(verb), ...numbers, rest]];
  return room.rows < MANY_ROWS ? [numbers] : [numbers, [rest]];
}

/** Puts work into one line for a log. */
export function workInWords(work: Work): string {
  const { nars, totalNars, bytes, totalBytes, rate } = work;
  const done = Math.min(bytes, totalBytes);
  const percent = totalBytes === 0 ? 0 : Math.floor((done / totalBytes) * 100);
  const time = timeOf(work).map((words) => `, ${words}`);
  return `${percent}%${time.join('')}: ${nars}/${formatCount(totalNars, 'NAR')}, ${formatSize(done)} of ${formatSize(totalBytes)}, ${formatSize(rate)}/s`;
}

/** Returns the facts of work for `--json`. */
export function workFacts({
  nars,
  totalNars,
  bytes,
  totalBytes,
  rate,
  secondsLeft,
}: Omit<Work, 'verb' | 'isAwaited'>): object {
  const left = secondsLeft === undefined ? null : Math.round(secondsLeft);
  return { nars, totalNars, bytes, totalBytes, rateBytesPerSec: Math.round(rate), secondsLeft: left };
}

function timeOf({ rate, isAwaited, secondsLeft }: Work): string[] {
  if (rate === 0) return isAwaited ? ['waiting for bytes'] : [];
  return secondsLeft === undefined ? [] : [leftInWords(secondsLeft)];
}

/** Begins a line with its subject. */
export function labelOf(verb: string): Span {
  return { text: verb.padEnd(LABEL_COLUMNS), style: 'bold' };
}

/** Formats a part of a whole: `98 %`. Only the whole is 100 %. */
export function formatShare(part: number, whole: number): string {
  return `${whole === 0 ? 0 : Math.min(100, Math.floor((part / whole) * 100))} %`;
}

/** Formats two sizes, with one unit if it is the same: `28.9/46.3 MB`. */
function formatPart(part: number, whole: number): string {
  const [short, unit] = formatSize(part).split(' ');
  const all = formatSize(whole);
  return all.endsWith(` ${unit}`) ? `${short}/${all}` : `${short} ${unit}/${all}`;
}
