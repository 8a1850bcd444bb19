import type { Candidate } from '../messages/messages.ts';

/** Limit on counted ranges. A closure of 690 MB has about 3,300. */
const MAX_COUNTED = 65_536;
/** Time for which a range counts as on its way after it was sent. Other members can get it from the receiver after that. */
const ON_ITS_WAY_MS = 1_500;

type Range = Pick<Candidate, 'prefix' | 'from'>;

/** A range that is being sent to one member. */
export interface Giving {
  /** Records the end: all of it was sent, or it will not be. Only the first call counts. */
  end(isSent: boolean, nowMs?: number): void;
}

interface Given {
  count: number;
  /** Members that it is being sent to. */
  sending: number;
  /** When it was last sent in full. */
  sentAtMs: number;
}

/**
 * Counts how often each range was sent, to all members together. If a crowd always gets the range that was sent least,
 * every byte is sent once before any is sent twice.
 */
export class LeastSent {
  readonly #given = new Map<string, Given>();

  count(range: Range): number {
    return this.#given.get(keyOf(range))?.count ?? 0;
  }

  /** Counts a range that is sent from now on. */
  give(range: Range): Giving {
    const key = keyOf(range);
    const given = this.#given.get(key) ?? { count: 0, sending: 0, sentAtMs: -Infinity };
    this.#given.delete(key); // so that the first one is the one that was given longest ago
    this.#given.set(key, given);
    const [oldest] = this.#given.keys();
    if (oldest !== undefined && this.#given.size > MAX_COUNTED) this.#given.delete(oldest);
    given.count++;
    given.sending++;
    let hasEnded = false;
    return {
      end(isSent, nowMs = performance.now()) {
        if (hasEnded) return;
        hasEnded = true;
        given.sending--;
        if (isSent) given.sentAtMs = nowMs;
        else given.count--; // the receiver does not have it
      },
    };
  }

  /** Returns true while a range is being sent to a member, and for a moment after that. */
  isOnItsWay(range: Range, nowMs = performance.now()): boolean {
    const given = this.#given.get(keyOf(range));
    return given !== undefined && (given.sending > 0 || nowMs - given.sentAtMs < ON_ITS_WAY_MS);
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
