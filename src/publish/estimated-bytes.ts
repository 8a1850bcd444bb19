import type { OtherNar } from './recompress-nars.ts';

/** Size of a zstd file of the default level: measured with xz files, and in parts of other NARs. */
const SIZE = { ofXz: 1.13, ofNar: 0.35 };

/** Estimates the bytes of the zstd files. */
export function estimatedBytes(nars: readonly OtherNar[]): number {
  let sum = 0;
  for (const { narSize, files, infos } of nars) {
    const bytes = Math.max(...files.values());
    sum += Math.min(narSize, infos[0].compression === 'xz' ? bytes * SIZE.ofXz : narSize * SIZE.ofNar);
  }
  return Math.round(sum);
}
