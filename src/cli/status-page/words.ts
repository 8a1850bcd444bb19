import { formatCount } from '../values.ts';

/** Formats a number of things for people: `1 NAR`, `18,412 NARs`. */
export function counted(count: number, thing: string): string {
  return formatCount(count, thing).replace(String(count), grouped(count));
}

/** Formats a number for people: `18,412`. */
export function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

/** Shortens the keys in a text, which nobody reads: `magnet:?xs=urn:btpk:8c34a1d7…#desktop` becomes `8c34a1d7…#desktop`. */
export function withShortKeys(text: string): string {
  return text.replace(/(?:magnet:\?xs=)?urn:btpk:([0-9a-f]{8})[0-9a-f]{56}/g, '$1…');
}
