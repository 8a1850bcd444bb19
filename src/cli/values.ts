import { InvalidArgumentError } from 'commander';
import { isNarswarmError } from '../errors.ts';

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

/** Reads a size as people write it: `500`, `10MB`, `4GiB`, `50G` (decimal without the i). Bytes. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kmgt]?i?)b?$/i.exec(text.trim());
  const unit = UNITS[match?.[2]?.toLowerCase() ?? '?'];
  if (match === null || unit === undefined)
    throw new InvalidArgumentError('Expected a size such as 500MB, 4GiB or 50G.');
  return Math.round(Number(match[1]) * unit);
}

/** Reads a rate: a size, with or without `/s`. Bytes a second, above 0. */
export function parseRate(text: string): number {
  const match = /^(.*?\d ?[kmgt]i?b?)(\/s(ec)?|ps)?$/i.exec(text.trim());
  const rate = match?.[1] === undefined ? 0 : parseSize(match[1]);
  if (rate === 0)
    throw new InvalidArgumentError('Expected a rate above 0, in bytes with a unit, such as 500kB/s or 10MB/s.');
  return rate;
}

/** Reads a duration: `90s`, `30m`, `8h`, `2d`. Milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]+)$/i.exec(text.trim());
  const unit = DURATIONS_MS[match?.[2]?.toLowerCase() ?? ''];
  if (match === null || unit === undefined)
    throw new InvalidArgumentError('Expected a duration such as 90s, 30m, 8h or 2d.');
  return Math.round(Number(match[1]) * unit);
}

/** Reads a port; 0 lets the system pick one. */
export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('Expected a port from 0 to 65535.');
  return port;
}

/** Makes a commander parser of a parser of ours: for an option that may be given several times. */
export function each<T>(
  parse: (text: string) => T,
): (text: string, previous: readonly T[] | undefined) => readonly T[] {
  return (text, previous) => [...(previous ?? []), one(parse)(text)];
}

/** Makes a commander parser of a parser of ours. */
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

/** Bytes as people read them: `1.4 GB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[unit] ?? 'TB'}`;
}

/** A number of things: `1 NAR`, `12 NARs`. */
export function formatCount(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

/** Milliseconds as people read them: `850 ms`, `12.3 s`, `4 min 05 s`, `3 h 10 min`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}
