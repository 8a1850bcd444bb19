/**
 * Reads sizes, rates, durations, times and addresses as people write them, on the command line and in the config file:
 * pure.
 */
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { ipVersion } from '../ip-version.ts';

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};
const DURATIONS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** Reads a size in bytes: `500`, `10MB`, `4GiB`, `50G` (decimal without the i). @throws USAGE */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kmgt]?i?)b?$/i.exec(text.trim());
  const unit = UNITS[match?.[2]?.toLowerCase() ?? '?'];
  if (match === null || unit === undefined)
    throw new NarswarmError('USAGE', 'Expected a size such as 500MB, 4GiB or 50G.');
  return Math.round(Number(match[1]) * unit);
}

/** Reads a budget in bytes: 0, or a size with a unit, since 50 instead of 50G would empty a store. @throws USAGE */
export function parseBudget(text: string): number {
  if (/^\s*0*[1-9][\d.]*\s*$/.test(text))
    throw new NarswarmError('USAGE', 'Expected a size with a unit, such as 500MB, 4GiB or 50G, or 0.');
  return parseSize(text);
}

/** Reads a rate in bytes a second, above 0: a size with a unit, with or without `/s`. @throws USAGE */
export function parseRate(text: string): number {
  const match = /^(.*?\d ?[kmgt]i?b?)(\/s(ec)?|ps)?$/i.exec(text.trim());
  const rate = match?.[1] === undefined ? 0 : parseSize(match[1]);
  if (rate === 0)
    throw new NarswarmError('USAGE', 'Expected a rate above 0, in bytes with a unit, such as 500kB/s or 10MB/s.');
  return rate;
}

/** Reads a duration in milliseconds: `90s`, `30m`, `8h`, `2d`. @throws USAGE */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]+)$/i.exec(text.trim());
  const unit = DURATIONS_MS[match?.[2]?.toLowerCase() ?? ''];
  if (match === null || unit === undefined)
    throw new NarswarmError('USAGE', 'Expected a duration such as 90s, 30m, 8h or 2d.');
  return Math.round(Number(match[1]) * unit);
}

/** Reads a timeout in milliseconds: a duration above 0. @throws USAGE */
export function parseTimeout(text: string): number {
  const ms = parseDuration(text);
  if (ms === 0) throw new NarswarmError('USAGE', 'Expected a duration above 0, such as 90s or 30m.');
  return ms;
}

/** Reads the lifetime of a hash map in milliseconds: at least 1 s, since its times are to the second. @throws USAGE */
export function parseLifetime(text: string): number {
  const ms = parseDuration(text);
  if (ms < 1000) throw new NarswarmError('USAGE', 'Expected a duration of a second or more, such as 14d.');
  return ms;
}

/** Checks an IP address. The only accepted name is localhost. @throws USAGE */
export function checkAddress(text: string): string {
  if (text === 'localhost') return '127.0.0.1';
  if (ipVersion(text) === 0)
    throw new NarswarmError('USAGE', 'Expected an IP address of this machine, such as 192.0.2.7 or ::1.');
  return text;
}

/** Reads a port. 0 lets the system pick one. @throws USAGE */
export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new NarswarmError('USAGE', 'Expected a port from 0 to 65535.');
  return port;
}

/** Reads a count, 0 or more. @throws USAGE */
export function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count))
    throw new NarswarmError('USAGE', 'Expected a whole number, 0 or more.');
  return count;
}

/** Reads the number of publishers that must agree, 1 or more. @throws USAGE */
export function parseRequired(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count === 0 || !Number.isSafeInteger(count))
    throw new NarswarmError('USAGE', 'Expected a whole number, 1 or more.');
  return count;
}

/** Checks a time of day, `HH:MM` in 24 hours, and returns it. @throws USAGE */
export function checkTimeOfDay(text: string): string {
  if (!/^([01]?\d|2[0-3]):[0-5]\d$/.test(text))
    throw new NarswarmError('USAGE', 'Expected a time of day such as 06:00.');
  return text;
}

/** Returns true if a parser accepts the text. */
export function isReadable(text: string, parse: (text: string) => unknown): boolean {
  try {
    parse(text);
    return true;
  } catch (error) {
    if (isNarswarmError(error)) return false;
    throw error;
  }
}
