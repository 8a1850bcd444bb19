import type { Candidate } from './messages.ts';

/** Limit on counted ranges. A closure of 690 MB has about 1,400. */
const MAX_COUNTED = 16_384;
/** Time for which a sent range counts as on its way. Other members can get it from the receiver after that. */
const ON_ITS_WAY_MS = 700;

type Range = Pick<Candidate, 'prefix' | 'from'>;

/**
 * Counts how often each range was sent, to all members together. If a crowd always gets the range that was sent least,
 * every byte is sent once before any is sent twice.
 */
export class LeastSent {
  readonly #given = new Map<string, { readonly count: number; readonly atMs: number }>();

  count(range: Range): number {
    return this.#given.get(keyOf(range))?.count ?? 0;
  }

  note(range: Range, nowMs = performance.now()): void {
    const key = keyOf(range);
    const count = this.#given.get(key)?.count ?? 0;
    this.#given.delete(key); // keeps the range that was sent longest ago first
    this.#given.set(key, { count: count + 1, atMs: nowMs });
    const [oldest] = this.#given.keys();
    if (oldest !== undefined && this.#given.size > MAX_COUNTED) this.#given.delete(oldest);
  }

  /** Returns true if a range was sent to a member a moment ago. */
  isOnItsWay(range: Range, nowMs = performance.now()): boolean {
    return nowMs - (this.#given.get(keyOf(range))?.atMs ?? -Infinity) < ON_ITS_WAY_MS;
  }

  /** Returns the index of the range that was sent least; the first one of several. -1 if there is none. */
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
