import { MAX_ZSTD_LEVEL, type NarFormat } from '../store/write-nar.ts';

/** Reads `zstd` or `zstd:LEVEL`. Undefined for anything else. */
export function parseZstd(text: string): NarFormat | undefined {
  if (text === 'zstd') return { compression: 'zstd' };
  const level = Number(/^zstd:([1-9]\d?)$/.exec(text)?.[1]);
  return level <= MAX_ZSTD_LEVEL ? { compression: 'zstd', level } : undefined;
}
