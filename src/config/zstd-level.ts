import { NarswarmError } from '../errors.ts';
import { MAX_ZSTD_LEVEL, type NarFormat } from '../store/export/write-nar.ts';

/** Reads `zstd` or `zstd:LEVEL`. Undefined for anything else. */
export function parseZstd(text: string): NarFormat | undefined {
  if (text === 'zstd') return { compression: 'zstd' };
  const level = Number(/^zstd:([1-9]\d?)$/.exec(text)?.[1]);
  return level <= MAX_ZSTD_LEVEL ? { compression: 'zstd', level } : undefined;
}

/** Reads how to compress NARs again: `zstd` or `zstd:LEVEL`. @throws USAGE */
export function parseRecompression(text: string): { readonly level: number | undefined } {
  const format = parseZstd(text);
  if (format !== undefined) return { level: format.level };
  throw new NarswarmError('USAGE', `Allowed are zstd and zstd:1 to zstd:${MAX_ZSTD_LEVEL}`);
}
