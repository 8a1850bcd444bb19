import type { Candidate } from './messages.ts';

/** Ranges that are counted at a time: a closure of 690 MB has some 1,400. */
const MAX_COUNTED = 16_384;
/** What was given away is on its way for so long: others are about to get it from whoever has it then. */
const ON_ITS_WAY_MS = 700;

type Range = Pick<Candidate, 'prefix' | 'from'>;

/**
 * Counts how often each range was given away, to all members together, so that a crowd which takes whatever was given away
 * least has every byte once before any twice.
 */
export class LeastSent {
  readonly #given = new Map<string, { readonly count: number; readonly atMs: number }>();

  count(range: Range): number {
    return this.#given.get(keyOf(range))?.count ?? 0;
  }

  note(range: Range, nowMs = performance.now()): void {
    const key = keyOf(range);
    const count = this.#given.get(key)?.count ?? 0;
    this.#given.delete(key); // so that the one given longest ago is the first
    this.#given.set(key, { count: count + 1, atMs: nowMs });
    const [oldest] = this.#given.keys();
    if (oldest !== undefined && this.#given.size > MAX_COUNTED) this.#given.delete(oldest);
  }

  /** True if somebody was given a range a moment ago. */
  isOnItsWay(range: Range, nowMs = performance.now()): boolean {
    return nowMs - (this.#given.get(keyOf(range))?.atMs ?? -Infinity) < ON_ITS_WAY_MS;
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
