import type { Candidate } from './messages.ts';

/** Ranges that are counted at a time: a closure of 690 MB has some 1,400. */
const MAX_COUNTED = 65_536;

type Range = Pick<Candidate, 'prefix' | 'from'>;

/**
 * Counts how often each range was given away, to all members together, so that a crowd which takes whatever was given away
 * least has every byte once before any twice.
 */
export class LeastSent {
  readonly #counts = new Map<string, number>();

  count(range: Range): number {
    return this.#counts.get(keyOf(range)) ?? 0;
  }

  note(range: Range): void {
    const key = keyOf(range);
    const count = this.#counts.get(key) ?? 0;
    this.#counts.delete(key); // so that the one given longest ago is the first
    this.#counts.set(key, count + 1);
    const [oldest] = this.#counts.keys();
    if (oldest !== undefined && this.#counts.size > MAX_COUNTED) this.#counts.delete(oldest);
  }

  /** Index of the range that was given away least; of several the first. -1 if there is none. */
  choose(ranges: readonly Range[], mayBe: (index: number) => boolean): number {
    let best = -1;
    let least = Infinity;
    for (const [index, range] of ranges.entries()) {
      const count = this.count(range);
      if (count >= least || !mayBe(index)) continue;
      [best, least] = [index, count];
      if (count === 0) break;
    }
    return best;
  }
}

export function keyOf({ prefix, from }: Range): string {
  return `${prefix}${from.toString(36)}`;
}
