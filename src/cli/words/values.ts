import { InvalidArgumentError } from 'commander';
import * as written from '../../config/units.ts';
import { parseRates as readRates } from '../../config/rates.ts';
import { isNarswarmError } from '../../errors.ts';

/** Reads a size in bytes: `500`, `10MB`, `4GiB`, `50G` (decimal without the i). */
export const parseSize = one(written.parseSize);
/** Reads one rate that always holds, or several with the times at which they hold. */
export const parseRates = one(readRates);
/** Reads a duration in milliseconds: `90s`, `30m`, `8h`, `2d`. */
export const parseDuration = one(written.parseDuration);
/** Reads a duration in milliseconds, above 0. */
export const parseTimeout = one(written.parseTimeout);
/** Reads a duration in milliseconds, at least one second. */
export const parseLifetime = one(written.parseLifetime);
/** Checks an IP address. Returns it as written. */
export const parseAddress = one(written.checkAddress);
/** Reads the number of publishers that must agree. */
export const parseRequired = one(written.parseRequired);
/** Reads a port; 0 lets the system pick one. */
export const parsePort = one(written.parsePort);

/**
 * Makes a commander parser from a parser of ours, for an option that may be repeated. Refuses the empty text, which
 * usually comes from an unset variable (`--publisher "$ADDR"`).
 */
export function each<T>(
  parse: (text: string) => T,
): (text: string, previous: readonly T[] | undefined) => readonly T[] {
  return (text, previous) => {
    if (text === '') throw new InvalidArgumentError('It is empty: give it a value, or leave it out');
    return [...(previous ?? []), one(parse)(text)];
  };
}

/** Makes a commander parser from a parser of ours. */
export function one<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (isNarswarmError(error)) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}

/** Formats bytes for people: `1.4 GB`. Accepts fractions, as rates have them. */
export function formatSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (Math.round(value) >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[unit] ?? 'TB'}`;
}

/** Formats the part of a size that is held from earlier runs: `, 1.4 GB of it already here`; nothing for 0. */
export function alreadyHere(bytes: number): string {
  return bytes === 0 ? '' : `, ${formatSize(bytes)} of it already here`;
}

/** Formats a number of things: `1 NAR`, `12 NARs`. */
export function formatCount(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

/** Formats milliseconds for people: `850 ms`, `12.3 s`, `4 min 05 s`, `3 h 10 min`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}
