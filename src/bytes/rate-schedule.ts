/** How fast something may go at which time of the day and week: pure. */

/** A rate, and when it holds. */
export interface RateWindow {
  /** Bytes a second; undefined: no limit. */
  readonly rateBytesPerSec: number | undefined;
  /** When it holds; undefined: whenever no other window does. */
  readonly when?:
    | {
        /** Days on which it begins, Sunday being 0, as `Date.getDay` has them. */
        readonly days: readonly number[];
        /** Minutes of the day, 0 to 1440. `until` at or before `from` is of the next day. */
        readonly from: number;
        readonly until: number;
      }
    | undefined;
}

/** Windows of this machine's own time. Where several hold, the last one counts. */
export type RateSchedule = readonly RateWindow[];

/** The rate that holds at a time, in bytes a second; undefined if there is no limit. */
export function rateAt(schedule: RateSchedule, at: Date): number | undefined {
  const minute = at.getHours() * 60 + at.getMinutes();
  const day = at.getDay();
  const window =
    schedule.findLast(({ when }) => when !== undefined && holds(when, day, minute)) ??
    schedule.findLast(({ when }) => when === undefined);
  return window?.rateBytesPerSec;
}

function holds({ days, from, until }: NonNullable<RateWindow['when']>, day: number, minute: number): boolean {
  if (from < until) return days.includes(day) && minute >= from && minute < until;
  return (days.includes(day) && minute >= from) || (days.includes((day + 6) % 7) && minute < until);
}
