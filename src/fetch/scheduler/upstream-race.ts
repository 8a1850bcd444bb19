import { isNarswarmError } from '../../errors.ts';
import type { Upstream } from '../../http/upstream.ts';
import { challengeOf, outcomeOf } from './hedge.ts';
import { RateMeter } from '../../bytes/rate-meter.ts';
import type { UpstreamOrder } from './upstream-order.ts';

const LOOK_EVERY_MS = 250;
const WINDOW_MS = 2_000;

/** A request to one upstream for the missing part of a NAR. */
export interface LapContext {
  readonly signal: AbortSignal;
  /** True if another source can be asked: then the wait for this one is shorter. */
  readonly givesWay: boolean;
  /** True if another source is at work: then this one first fetches the part that the other reaches last. */
  readonly isSecond: boolean;
  /** Call this with the number of received bytes. */
  readonly onBytes: (bytes: number) => void;
}

export interface RaceOptions {
  /** Upstreams in the order of asking. */
  readonly upstreams: readonly Upstream[];
  readonly order: UpstreamOrder;
  /** Asks an upstream for the part that is missing now. Continues after the bytes of others. */
  readonly ask: (upstream: Upstream, context: LapContext) => Promise<void>;
  /** True if other sources may have the NAR: then the wait for each upstream is shorter. Default: false. */
  readonly othersMayHelp?: boolean | undefined;
  readonly leftBytes: () => number;
  /** True while our own limit delays everything, or while no other upstream may be asked for another reason. */
  readonly isHeldBack: () => boolean;
  /** True if no source has sent a byte for a moment. */
  readonly isLineSilent: () => boolean;
  /** Called with the outcome of each upstream that was asked, except overtaken ones. */
  readonly onOutcome: (upstream: Upstream, failure: unknown) => void;
  /** Returns true for failures with which another upstream does not help. */
  readonly isFatal: (error: unknown) => boolean;
  readonly signal: AbortSignal;
}

/** A running request to one upstream. */
interface Lap {
  readonly upstream: Upstream;
  readonly stop: AbortController;
  readonly beganAtMs: number;
  readonly meter: RateMeter;
  /** True until the trial is decided. */
  isTrial: boolean;
  bytes: number;
  /** Bytes that the first source had sent when this one, the second, was asked. */
  readonly before: number;
  ended: Promise<{ readonly lap: Lap; readonly failure?: unknown }>;
}

/** One error for all aborts: an abort without a reason makes an error with a stack each time. */
const OVERTAKEN = new Error('another upstream is faster');

/**
 * Asks upstreams for a NAR, the next one when one fails. While one is slow and another could be faster, asks both at
 * once, until it is clear which one is ahead. At most two are at work, so no byte is sent more than twice.
 */
export class UpstreamRace {
  readonly #options: RaceOptions;
  readonly #waiting: Upstream[];
  readonly #failures: unknown[] = [];
  #laps: Lap[] = [];

  constructor(options: RaceOptions) {
    this.#options = options;
    this.#waiting = [...options.upstreams];
  }

  /**
   * @returns the failure of each upstream if none has delivered; undefined if one has
   * @throws fatal errors; the signal's reason
   */
  async run(): Promise<unknown[] | undefined> {
    const { signal, isFatal, onOutcome } = this.#options;
    signal.throwIfAborted();
    const timer = this.#waiting.length > 1 ? setInterval(() => this.#look(), LOOK_EVERY_MS) : undefined;
    const stop = (): void => {
      for (const lap of this.#laps) lap.stop.abort(signal.reason);
    };
    signal.addEventListener('abort', stop);
    try {
      for (;;) {
        if (this.#laps.length === 0 && !this.#begin(false)) return this.#failures;
        const { lap, failure } = await Promise.race(this.#laps.map(({ ended }) => ended));
        this.#laps = this.#laps.filter((one) => one !== lap);
        signal.throwIfAborted();
        if (failure === undefined) {
          this.#endTrial(lap, 'won');
          onOutcome(lap.upstream, undefined);
          return undefined;
        }
        if (failure === OVERTAKEN) continue;
        if (isFatal(failure)) throw failure;
        onOutcome(lap.upstream, failure);
        this.#endTrial(
          lap,
          isNarswarmError(failure, 'HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED') ? 'lost' : 'void',
        );
        this.#failures.push(failure);
      }
    } finally {
      clearInterval(timer);
      signal.removeEventListener('abort', stop);
      for (const lap of this.#laps) lap.stop.abort(OVERTAKEN);
      await Promise.all(this.#laps.map(({ ended }) => ended)); // bytes may still be on their way to the disk
      for (const lap of this.#laps) this.#endTrial(lap, 'lost');
    }
  }

  /** Asks the next upstream. @returns false if there is none */
  #begin(isTrial: boolean): boolean {
    const { order, ask } = this.#options;
    const upstream = this.#waiting.shift();
    if (upstream === undefined) return false;
    const { rate, gate } = order.meritOf(upstream);
    const now = performance.now();
    const stop = new AbortController();
    const lap: Lap = {
      upstream,
      stop,
      beganAtMs: now,
      meter: new RateMeter(WINDOW_MS),
      isTrial,
      bytes: 0,
      before: this.#laps[0]?.bytes ?? 0,
      ended: Promise.resolve() as never,
    };
    rate.begin(now);
    if (isTrial) gate.begin(this.#options.isLineSilent());
    const onBytes = (bytes: number): void => {
      const atMs = performance.now();
      lap.bytes += bytes;
      lap.meter.add(bytes, atMs);
      rate.add(bytes, atMs);
    };
    const isSecond = this.#laps.length > 0;
    const givesWay = isSecond || this.#waiting.length > 0 || this.#options.othersMayHelp === true;
    lap.ended = ask(upstream, { signal: stop.signal, givesWay, isSecond, onBytes })
      .then(
        () => ({ lap }),
        (failure: unknown) => ({ lap, failure: stop.signal.aborted ? OVERTAKEN : (failure ?? new Error('failed')) }),
      )
      .finally(() => rate.end(performance.now()));
    this.#laps.push(lap);
    return true;
  }

  #look(): void {
    const [first, second] = this.#laps;
    if (first === undefined || first.stop.signal.aborted || second?.stop.signal.aborted === true) return;
    if (second === undefined) this.#lookForSecond(first);
    else this.#compare(first, second);
  }

  #lookForSecond(first: Lap): void {
    const { order, isHeldBack, isLineSilent, leftBytes } = this.#options;
    const [next] = this.#waiting;
    if (next === undefined || isHeldBack() || order.isLiar(next)) return;
    const now = performance.now();
    const flow = { ageMs: now - first.beganAtMs, rate: first.meter.rate(now), leftBytes: leftBytes() };
    const { rate, gate } = order.meritOf(next);
    const isSilent = isLineSilent();
    const candidate = { rate: rate.rate(now), flows: rate.flows, mayTry: gate.mayTry(now, isSilent) };
    const challenge = challengeOf(flow, candidate, isSilent);
    if (challenge !== undefined) this.#begin(challenge === 'trial');
  }

  #compare(first: Lap, second: Lap): void {
    const outcome = outcomeOf({
      ageMs: performance.now() - second.beganAtMs,
      bytes: second.bytes,
      bytesOfFirst: first.bytes - second.before,
    });
    if (outcome === undefined) return;
    const loser = outcome === 'won' ? first : second;
    this.#endTrial(second, outcome);
    this.#waiting.push(loser.upstream); // asked last, if the other one fails
    loser.stop.abort(OVERTAKEN);
  }

  #endTrial(lap: Lap, outcome: 'won' | 'lost' | 'void'): void {
    if (!lap.isTrial) return;
    lap.isTrial = false;
    this.#options.order.meritOf(lap.upstream).gate.end(outcome, performance.now());
  }
}
