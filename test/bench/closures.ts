/** The closures that are fetched, as sizes of NAR files, which decide how fast a client is. */
import { RandomStream } from './random.ts';

/** A closure to generate. */
export interface ClosureShape {
  readonly name: ClosureName;
  /** Bytes of each NAR file. */
  readonly sizesBytes: readonly number[];
}

export const CLOSURE_NAMES = ['crowd', 'small', 'medium', 'desktop'] as const;
export type ClosureName = (typeof CLOSURE_NAMES)[number];

const KB = 1000;
const MB = 1000 * KB;
const LARGE_BYTES = [105, 90, 78, 65, 56, 50].map((size) => size * MB);

/** Makes the shape of a closure: always the same one. */
export const CLOSURES: Readonly<Record<ClosureName, () => ClosureShape>> = {
  /** A desktop: the median NAR has 95 kB, six of 50 to 105 MB hold most of the bytes. */
  desktop: () => {
    const small = sizes('desktop', { count: 807, medianBytes: 95 * KB, sigma: 1.55, maxBytes: 20 * MB });
    return { name: 'desktop', sizesBytes: [...small, ...LARGE_BYTES] };
  },
  /** The tail of any closure, where each NAR costs more than its bytes: 129 kB on average, none over 1 MB. */
  small: () => {
    const drawn = sizes('small', { count: 500, medianBytes: 90 * KB, sigma: 0.9, maxBytes: 900 * KB });
    const scale = (129 * KB * drawn.length) / drawn.reduce((sum, size) => sum + size, 0);
    return { name: 'small', sizesBytes: drawn.map((size) => Math.min(MB, Math.round(size * scale))) };
  },
  /** An update of a desktop: 50 NARs, 47 MB, a few of which hold most of the bytes. */
  crowd: () => {
    const drawn = sizes('crowd', { count: 50, medianBytes: 300 * KB, sigma: 1.4, maxBytes: 12 * MB });
    return { name: 'crowd', sizesBytes: scaled(drawn, 47 * MB) };
  },
  /** A large update of a desktop: 120 NARs, 130 MB. */
  medium: () => {
    const drawn = sizes('medium', { count: 120, medianBytes: 300 * KB, sigma: 1.6, maxBytes: 20 * MB });
    return { name: 'medium', sizesBytes: scaled(drawn, 130 * MB) };
  },
};

/** The same sizes with this sum. */
function scaled(sizesBytes: readonly number[], totalBytes: number): number[] {
  const scale = totalBytes / sizesBytes.reduce((sum, size) => sum + size, 0);
  return sizesBytes.map((size) => Math.round(size * scale));
}

interface Distribution {
  readonly count: number;
  readonly medianBytes: number;
  readonly sigma: number;
  readonly maxBytes: number;
}

function sizes(seed: string, { count, medianBytes, sigma, maxBytes }: Distribution): number[] {
  const random = new RandomStream(seed);
  const draw = (): number => Math.round(random.logNormal(medianBytes, sigma));
  return Array.from({ length: count }, () => Math.min(maxBytes, Math.max(200, draw())));
}
