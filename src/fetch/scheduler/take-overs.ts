import type { Claim } from '../../exchange/link/their-fetches.ts';

/** Time for which an upstream tries a NAR that another process fetches. Then the two are compared. */
const TRY_MS = 2_000;
/**
 * If others will have a NAR within this time, they are waited for while the rate of our own upstreams is unknown. A
 * trial may take half of the line from them for two seconds, and delay the bytes that are then on their way.
 */
const SOON_SEC = 8;
/**
 * Average time from one useless trial to the next; doubled after each. The actual time is random: otherwise all
 * machines in a room would try at once.
 */
const TRY_EVERY_MS = 4_000;
const MAX_TRY_EVERY_MS = 60_000;
const MAX_TRIALS = 8;

/** A NAR that is fetched from an upstream. */
interface Fetched {
  readonly job: { readonly sizeBytes: number };
  readonly partial: { readonly heldBytes: number } | undefined;
}

/**
 * Returns true if other processes will have all NARs that they fetch before our own upstreams could have fetched them, or
 * soon. Then a trial would only take a part of the line from them.
 *
 * @param ownBytesPerSec undefined if it is not known yet
 */
export function areOthersSooner(
  fetched: Iterable<{ readonly sizeBytes: number; readonly leftBytes: number; readonly claim: Claim }>,
  ownBytesPerSec: number | undefined,
): boolean {
  let theirSec = 0;
  let ownBytes = 0;
  for (const { sizeBytes, leftBytes, claim } of fetched) {
    const theirBytes = sizeBytes - claim.heldBytes;
    if (theirBytes > 0) theirSec = Math.max(theirSec, theirBytes / claim.bytesPerSec);
    ownBytes += leftBytes;
  }
  const ownSec = ownBytesPerSec === undefined ? SOON_SEC : ownBytes / ownBytesPerSec;
  return theirSec <= ownSec;
}

/**
 * Decides when an upstream takes a NAR that another process says it is fetching. That process may be slower, or lie.
 * First one NAR is tried. If this process is faster, twice as many are tried next; otherwise the next trial is later.
 */
export class TakeOvers<Task extends Fetched> {
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #trials = new Map<Task, { readonly atMs: number; readonly heldBytes: number }>();
  #room = 1;
  #everyMs = TRY_EVERY_MS;
  #notBeforeMs: number | undefined;

  constructor(now: () => number = () => performance.now(), random: () => number = () => Math.random()) {
    this.#now = now;
    this.#random = random;
  }

  /** Returns true if one more NAR may be tried. @param isEarly true while other processes are waited for in any case */
  mayTry(isEarly: boolean): boolean {
    if (isEarly) return false;
    this.#notBeforeMs ??= this.#now() + this.#pauseMs;
    return this.#trials.size < this.#room && this.#now() >= this.#notBeforeMs;
  }

  /** Records that an upstream takes a NAR that another process fetches. */
  begin(task: Task): void {
    this.#trials.set(task, { atMs: this.#now(), heldBytes: task.partial?.heldBytes ?? 0 });
  }

  /** Returns true if a NAR was taken over and the other process will not have it sooner. */
  isWorthIt(task: Task, claim: Claim): boolean {
    const trial = this.#trials.get(task);
    if (trial === undefined) return false;
    const triedMs = this.#now() - trial.atMs;
    if (triedMs < TRY_MS) return true;
    const heldBytes = task.partial?.heldBytes ?? 0;
    const { sizeBytes } = task.job;
    const bytesPerSec = ((heldBytes - trial.heldBytes) * 1000) / triedMs;
    return (sizeBytes - heldBytes) * claim.bytesPerSec < (sizeBytes - claim.heldBytes) * bytesPerSec;
  }

  get #pauseMs(): number {
    return this.#everyMs * (0.5 + this.#random());
  }

  /** Records the end of a trial: the NAR was fetched, or left to the other process again. */
  end(task: Task, how: 'fetched' | 'left'): void {
    if (!this.#trials.delete(task)) return;
    if (how === 'fetched') {
      this.#room = Math.min(2 * this.#room, MAX_TRIALS);
      this.#everyMs = TRY_EVERY_MS;
      return;
    }
    this.#room = 1;
    this.#notBeforeMs = this.#now() + this.#pauseMs;
    this.#everyMs = Math.min(2 * this.#everyMs, MAX_TRY_EVERY_MS);
  }
}
