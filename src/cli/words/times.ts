/** Puts times into words, as people at this machine read them: its own time zone, and how long ago. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/**
 * Formats a time for people: `3 h ago, 02:14`, `yesterday 23:50`, `10 days ago, 2026-11-20 02:14`. A time to come is
 * `in 4 days, 2026-12-04 02:14`.
 *
 * @param time as `Date` reads it; any other text is returned unchanged
 */
export function whenInWords(time: string | Date, now: Date): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  const passedMs = now.getTime() - at.getTime();
  const days = daysBetween(at, now);
  if (Math.abs(passedMs) < MINUTE_MS) return 'just now';
  if (days === 0) return `${ago(passedMs, spanInWords(Math.abs(passedMs)))}, ${clockOf(at)}`;
  if (days === 1) return `yesterday ${clockOf(at)}`;
  if (days === -1) return `tomorrow ${clockOf(at)}`;
  return `${ago(passedMs, `${Math.abs(days)} days`)}, ${dayOf(at)} ${clockOf(at)}`;
}

function ago(passedMs: number, span: string): string {
  return passedMs < 0 ? `in ${span}` : `${span} ago`;
}

function spanInWords(ms: number): string {
  return ms < HOUR_MS ? `${Math.floor(ms / MINUTE_MS)} min` : `${Math.floor(ms / HOUR_MS)} h`;
}

/** Counts midnights between two times: 1 if the first was yesterday. A day with a change of clocks counts as one. */
function daysBetween(from: Date, to: Date): number {
  const dayOfUtc = (date: Date): number => Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000;
  return dayOfUtc(to) - dayOfUtc(from);
}

function clockOf(at: Date): string {
  return `${twoDigits(at.getHours())}:${twoDigits(at.getMinutes())}`;
}

function dayOf(at: Date): string {
  return `${at.getFullYear()}-${twoDigits(at.getMonth() + 1)}-${twoDigits(at.getDate())}`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}
