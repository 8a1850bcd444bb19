/** Rates that hold at certain times, as people write them: `5MB/s, 22:00-06:00 unlimited, Sat-Sun 10MB/s`. */
import type { RateSchedule, RateWindow } from '../bytes/rate-schedule.ts';
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { parseRate } from './units.ts';

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const EVERY_DAY = [0, 1, 2, 3, 4, 5, 6];
const DAY_MINUTES = 1440;

const DAY = '(?:mon|tue|wed|thu|fri|sat|sun)';
const TIME = String.raw`(?:[01]?\d|2[0-4]):[0-5]\d`;
const WINDOW = new RegExp(`^(?:(${DAY})(?:-(${DAY}))?\\s+)?(?:(${TIME})-(${TIME})\\s+)?(.+)$`, 'i');

const EXAMPLE = 'such as 5MB/s, 22:00-06:00 unlimited, Sat-Sun 10MB/s';

/**
 * Reads rates, separated by commas: `[DAY[-DAY]] [HH:MM-HH:MM] RATE`. RATE is one of {@link parseRate}, or `unlimited`.
 * A rate without a time holds whenever no other does; without such a rate there is no limit then. If several hold at
 * one time, the last one counts. A window over midnight belongs to the day on which it begins.
 *
 * @throws USAGE
 */
export function parseRates(text: string): RateSchedule {
  const items = text.split(',').map((item) => item.trim());
  const schedule = items.map((item) => parseWindow(item, items.length > 1));
  if (schedule.filter(({ when }) => when === undefined).length > 1)
    throw new NarswarmError('USAGE', `Expected at most one rate without a time, ${EXAMPLE}.`);
  return schedule;
}

function parseWindow(text: string, isOneOfSeveral: boolean): RateWindow {
  const [, firstDay, lastDay, from, until, rate = ''] = WINDOW.exec(text) ?? [];
  const hasTime = firstDay !== undefined || from !== undefined;
  const rateBytesPerSec = parseLimit(rate, text, hasTime || isOneOfSeveral || text.includes(':'));
  if (!hasTime) return { rateBytesPerSec };
  const when = { days: daysOf(firstDay, lastDay), from: minuteOf(from ?? '00:00'), until: minuteOf(until ?? '24:00') };
  if (when.from === DAY_MINUTES || when.from === when.until)
    throw new NarswarmError('USAGE', `Expected two different times in ${quote(text)}, the first before 24:00.`);
  return { rateBytesPerSec, when };
}

function parseLimit(rate: string, item: string, isOfSchedule: boolean): number | undefined {
  if (rate.toLowerCase() === 'unlimited') return undefined;
  if (!isOfSchedule) return parseRate(rate);
  try {
    return parseRate(rate);
  } catch (cause) {
    throw new NarswarmError('USAGE', `Expected [DAY[-DAY]] [HH:MM-HH:MM] RATE, and not ${quote(item)}, ${EXAMPLE}.`, {
      cause,
    });
  }
}

function daysOf(first: string | undefined, last: string | undefined): readonly number[] {
  if (first === undefined) return EVERY_DAY;
  const [from, until] = [first, last ?? first].map((name) => DAYS.findIndex((day) => day === name.toLowerCase()));
  const days: number[] = [];
  for (let day = from ?? 0; ; day = (day + 1) % 7) {
    days.push(day);
    if (day === until) return days;
  }
}

function minuteOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  const minute = hours * 60 + minutes;
  if (minute > DAY_MINUTES) throw new NarswarmError('USAGE', `Expected a time of day up to 24:00, and not ${time}.`);
  return minute;
}
