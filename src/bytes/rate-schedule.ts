/** Rates by the time of the day and week: pure. */

/** A rate, and the time during which it holds. */
export interface RateWindow {
  /** Bytes a second. Undefined: no limit. */
  readonly rateBytesPerSec: number | undefined;
  /** The time during which it holds. Undefined: whenever no other window does. */
  readonly when?:
    | {
        /** Days on which the window begins, as in `Date.getDay`: Sunday is 0. */
        readonly days: readonly number[];
        /** Minutes of the day, 0 to 1440. If `until` is not after `from`, it is on the next day. */
        readonly from: number;
        readonly until: number;
      }
    | undefined;
}

/** Windows in this machine's local time. If several hold, the last one counts. */
export type RateSchedule = readonly RateWindow[];

/** Returns the rate at a time, in bytes a second. Undefined: no limit. */
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
