/** How fast a download may be that yields to all other traffic on its line: pure. */

/** The rate while others use the line: connections stay open, and the end of the others' traffic is noticed. */
export const LOWEST_BYTES_PER_SEC = 16 * 1024;
const FIRST_BYTES_PER_SEC = 512 * 1024;

/** Waiting time in the queue above which the line is full, and below which the queue has become short. */
const FULL_MS = 50;
const SHORT_MS = 20;
/** Waiting time in the queue above which somebody uses the line. */
const CROWDED_MS = 5;

/** The shortest delay of these minutes is the one without a queue: the way to the server may change. */
const BASE_MINUTES = 10;
/**
 * The shortest delay of this time counts. Downloads with a limit come in bursts, since the window of a receiver opens by
 * half of it at a time: between two bursts the queue is empty.
 */
const RECENT_MS = 1_000;

/** Time whose highest rate is that of the line. */
const MOST_MS = 3_000;

/** A line that is full at less than this share of what it has carried carries traffic of others. */
const OURS = 0.8;
/** The rate while the queue gets shorter, as a share of the arriving rate, and the time for that. */
const DRAINING = 0.6;
const DRAINED_WITHIN_MS = 2_200;
/** The same time after cruising, when the queue is probably not ours; and after the first rise, which is fast. */
const SOON_DRAINED_WITHIN_MS = 1_300;
const FIRST_DRAINED_WITHIN_MS = 4_000;
/** Share of the line that is used for long: without a queue of our own. */
const CRUISING = 0.95;
/** Time until the line is tried for more. Doubles each time. */
const FIRST_CRUISE_MS = 5_000;
const LONGEST_CRUISE_MS = 60_000;
/** Factor of the line's rate after it was full although we did not try for more. */
const LESS = 0.99;
/** If less than this share of our rate arrives, the line is full. Otherwise the server may be slow. */
const ARRIVES = 0.98;
/** Growth by each look: far below the rate of the line, and near it. */
const FAST = 1.1;
const SLOW = 1.005;
/** Above this share, the line carries more than before. */
const FASTER = 1.15;
/** A rate above this multiple of the arriving rate does not grow: something else is slow. */
const USED = 1.3;
/** Looks in a row without growth after which a rise is stuck. */
const STUCK_LOOKS = 3;

/** Time to leave the line to others before it is tried again. Doubles while they are still there. */
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 32_000;
/** Share of the line that a rise begins with after a pause. */
const RISE_FROM = 0.15;
/** Factor of the line's rate after each pause, since the line may have become slower. */
const FADING = 0.96;

/** One look at the line. */
export interface Look {
  readonly nowMs: number;
  /** Milliseconds from a small question to its answer over the same line, or without an answer until now. */
  readonly delayMs: number;
  readonly isAnswered: boolean;
  /** Bytes a second that arrive. */
  readonly arrivingBytesPerSec: number;
}

/**
 * Rising: looks for the rate at which the line is full. Draining: lets a queue of its own get shorter. Cruising: stays
 * below the rate of the line. Paused: leaves the line to others.
 */
export type YieldingState = 'rising' | 'draining' | 'cruising' | 'paused';

/**
 * Controls a rate by the delay of small questions, as LEDBAT does (RFC 6817): a queue shows that the line is full, long
 * before packets are lost. The rate at which it appears shows whose queue it is: our own one if the line carries what
 * it has carried before. Otherwise others use the line, and nearly all of it is left to them.
 */
export class YieldingRate {
  /** The shortest delay of each minute, the newest first. */
  readonly #bases: { readonly minute: number; ms: number }[] = [];
  /** The last delays, and rates of what arrives. */
  readonly #recent: { readonly askedAtMs: number; readonly ms: number }[] = [];
  readonly #rates: { readonly atMs: number; readonly rate: number }[] = [];
  /** True if the last delay is of a question without an answer. */
  #isOpen = false;
  #state: YieldingState = 'rising';
  #rate = FIRST_BYTES_PER_SEC;
  /** Bytes a second that the line carries. Undefined: unknown. */
  #line: number | undefined;
  /** When the state ends. */
  #untilMs = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #cruiseMs = FIRST_CRUISE_MS;
  /** When the line is tried for more. A queue meanwhile does not put it off: it may be none, but a slow server. */
  #tryAtMs = -Infinity;
  /** How often the line was full because of others since the last cruise. */
  #strikes = 0;
  /** Looks in a row at which the rate did not grow because less arrived. */
  #stuck = 0;
  /** The rate after draining. */
  #resumeAt = 0;
  /** True if it rises to find out whether the line carries more. */
  #isTrying = false;

  get rateBytesPerSec(): number {
    return this.#rate;
  }

  get state(): YieldingState {
    return this.#state;
  }

  /** Milliseconds that packets wait in the queue of the line now. */
  get queueMs(): number {
    return this.#recent.length === 0 ? 0 : Math.min(...this.#recent.map(({ ms }) => ms)) - this.#baseMs;
  }

  get #baseMs(): number {
    return Math.min(...this.#bases.map(({ ms }) => ms));
  }

  /** Notes how the line is now. @returns the rate from now on, in bytes a second */
  look({ nowMs, delayMs, isAnswered, arrivingBytesPerSec: arriving }: Look): number {
    if (!isAnswered && !(delayMs > this.#baseMs + FULL_MS)) return this.#rate; // it may still come in time
    this.#note(delayMs, isAnswered, nowMs);
    this.#rates.push({ atMs: nowMs, rate: arriving });
    while ((this.#rates[0]?.atMs ?? nowMs) < nowMs - MOST_MS) this.#rates.shift();
    const isFull = nowMs - (this.#recent[0]?.askedAtMs ?? nowMs) > RECENT_MS * 0.8 && this.queueMs > FULL_MS;
    this.#stuck = arriving * USED < this.#rate ? this.#stuck + 1 : 0;
    if (isFull) this.#onFull(arriving, nowMs);
    else if (this.#isCrowded(arriving)) this.#pause(nowMs);
    else if (isAnswered && this.queueMs < SHORT_MS) this.#onFree(arriving, nowMs);
    return this.#rate;
  }

  #note(delayMs: number, isAnswered: boolean, nowMs: number): void {
    if (this.#isOpen) this.#recent.pop();
    this.#isOpen = !isAnswered;
    this.#recent.push({ askedAtMs: nowMs - delayMs, ms: delayMs });
    for (
      let [first] = this.#recent;
      first !== undefined && first.askedAtMs + first.ms < nowMs - RECENT_MS;
      [first] = this.#recent
    )
      this.#recent.shift();
    if (!isAnswered) return;
    const minute = Math.floor(nowMs / 60_000);
    const [newest] = this.#bases;
    if (newest?.minute === minute) newest.ms = Math.min(newest.ms, delayMs);
    else this.#bases.unshift({ minute, ms: delayMs });
    while ((this.#bases.at(-1)?.minute ?? minute) <= minute - BASE_MINUTES) this.#bases.pop();
  }

  #onFull(arriving: number, nowMs: number): void {
    if (this.#state === 'paused') this.#untilMs = Math.max(this.#untilMs, nowMs + FIRST_PAUSE_MS);
    else if (this.#state === 'draining') {
      if (nowMs > this.#untilMs) this.#pause(nowMs); // a queue that does not get shorter is not ours
    } else this.#drain(arriving, nowMs);
  }

  /**
   * True if less arrives than we would read, and some packets wait: others keep the queue short (BBR), and get less for
   * it. A slow server leaves no queue.
   */
  #isCrowded(arriving: number): boolean {
    if (this.queueMs < CROWDED_MS || this.#line === undefined || arriving > this.#line * OURS) return false;
    if (this.#state === 'cruising') return arriving < this.#rate * OURS;
    return this.#state === 'rising' && this.#stuck > STUCK_LOOKS;
  }

  #drain(arriving: number, nowMs: number): void {
    const grows = this.#line === undefined ? FIRST_DRAINED_WITHIN_MS : DRAINED_WITHIN_MS;
    const drainedWithinMs = this.#state === 'cruising' ? SOON_DRAINED_WITHIN_MS : grows;
    const isOurs = this.#line === undefined || arriving >= this.#line * OURS;
    if (isOurs) {
      if (this.#line === undefined) this.#line = this.#most();
      else if (this.#isTrying) this.#line = Math.max(this.#line * LESS, this.#most());
      else if (arriving < this.#rate * ARRIVES) this.#line *= LESS;
      this.#isTrying = false;
    } else if (++this.#strikes > 1) {
      this.#pause(nowMs);
      return;
    }
    this.#rate = Math.max(LOWEST_BYTES_PER_SEC, arriving * DRAINING);
    this.#resumeAt = isOurs ? (this.#line ?? arriving) * CRUISING : arriving * DRAINING;
    this.#untilMs = nowMs + drainedWithinMs;
    this.#state = 'draining';
  }

  #onFree(arriving: number, nowMs: number): void {
    if (this.#state === 'draining') {
      this.#rate = Math.max(LOWEST_BYTES_PER_SEC, this.#resumeAt);
      this.#state = 'rising';
      if (this.#strikes === 0) this.#cruise(nowMs);
    } else if (this.#state === 'rising') this.#rise(arriving, nowMs);
    else if (nowMs > this.#untilMs) {
      if (this.#state === 'paused') this.#rate = Math.max(LOWEST_BYTES_PER_SEC, (this.#line ?? 0) * RISE_FROM);
      else this.#strikes = 0;
      this.#isTrying = this.#state === 'cruising';
      this.#state = 'rising';
    }
  }

  #cruise(nowMs: number): void {
    this.#state = 'cruising';
    if (nowMs > this.#tryAtMs) {
      this.#tryAtMs = nowMs + this.#cruiseMs;
      this.#cruiseMs = Math.min(LONGEST_CRUISE_MS, this.#cruiseMs * 2);
    }
    this.#untilMs = this.#tryAtMs;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  /** Returns the most that has arrived a moment ago: this process may have been too busy to read since. */
  #most(): number {
    return Math.max(0, ...this.#rates.map(({ rate }) => rate));
  }

  #pause(nowMs: number): void {
    this.#state = 'paused';
    this.#strikes = 0;
    this.#rate = LOWEST_BYTES_PER_SEC;
    this.#untilMs = nowMs + this.#pauseMs;
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
    if (this.#line !== undefined) this.#line *= FADING;
  }

  #rise(arriving: number, nowMs: number): void {
    const share = this.#rate / (this.#line ?? Infinity);
    if (share >= CRUISING && !this.#isTrying) this.#cruise(nowMs);
    else if (this.#rate < arriving * USED) this.#rate *= share < CRUISING || share > FASTER ? FAST : SLOW;
  }
}
