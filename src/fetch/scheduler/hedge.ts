/** Decides from rates alone whether to ask another source for the rest of a transfer. */

/** Time after which a transfer is judged. */
const SETTLE_MS = 1_500;
/** Transfers that end within this time stay with their source. */
const ENDS_SOON_MS = 2_000;
/** Factor by which the other source must be faster. Measurements are rough, and changing costs a round trip. */
const BETTER = 1.5;
/** Time after which a second source has lost if it has not overtaken the first. */
const LOST_AFTER_MS = 3_000;
/** Factor of bytes from which a second source has overtaken the first. */
const AHEAD = 1.25;
/** Time from one trial of a source to the next; doubled with each lost trial. */
const TRIAL_EVERY_MS = 15_000;
const MAX_TRIAL_EVERY_MS = 240_000;
/** Time from one lost trial to the next while no source sends anything. Nothing is taken from a source that stands still. */
const SILENT_TRIAL_EVERY_MS = 5_000;

/** A transfer from one source. */
export interface Flow {
  readonly ageMs: number;
  /** Bytes a second of this transfer alone. */
  readonly rate: number;
  readonly leftBytes: number;
}

/** A source that could be asked, too. */
export interface Candidate {
  /** Bytes a second over all its transfers. Undefined if unknown. */
  readonly rate: number | undefined;
  /** Number of transfers that share this rate. */
  readonly flows: number;
  readonly mayTry: boolean;
}

/**
 * Decides whether to ask a second source for the rest of a transfer. `known`: it is known to be faster. `trial`: its
 * rate must be learned. Undefined: the first source continues alone.
 *
 * @param isLineSilent true if no source has sent anything for a second: then the line is to blame, not a source
 */
export function challengeOf(flow: Flow, candidate: Candidate, isLineSilent: boolean): 'known' | 'trial' | undefined {
  if (flow.ageMs < SETTLE_MS || flow.leftBytes * 1000 < flow.rate * ENDS_SOON_MS) return undefined;
  const share = (candidate.rate ?? 0) / (candidate.flows + 1);
  if (share > flow.rate * BETTER && !isLineSilent) return 'known';
  return candidate.mayTry ? 'trial' : undefined;
}

/** Compares two sources by the bytes that each has sent since the second was asked. */
export function outcomeOf(second: {
  readonly ageMs: number;
  readonly bytes: number;
  readonly bytesOfFirst: number;
}): 'won' | 'lost' | undefined {
  if (second.bytes > second.bytesOfFirst * AHEAD) return 'won';
  return second.ageMs < LOST_AFTER_MS ? undefined : 'lost';
}

/** Decides when a source may be tried again. Allows one trial at a time, and fewer the more it loses. */
export class TrialGate {
  #isOpen = false;
  #notBeforeMs = -Infinity;
  #everyMs = TRIAL_EVERY_MS;
  /** True if the line was silent when the trial began: then it says nothing about the source. */
  #isOfSilence = false;
  #silentNotBeforeMs = -Infinity;

  /** @param isLineSilent true if no source has sent anything for a second: earlier lost trials do not count then */
  mayTry(nowMs: number, isLineSilent = false): boolean {
    if (this.#isOpen) return false;
    return nowMs >= this.#notBeforeMs || (isLineSilent && nowMs >= this.#silentNotBeforeMs);
  }

  begin(isLineSilent = false): void {
    this.#isOpen = true;
    this.#isOfSilence = isLineSilent;
  }

  /** Ends a trial. `void`: without a result, since the source does not have the file. */
  end(outcome: 'won' | 'lost' | 'void', nowMs: number): void {
    this.#isOpen = false;
    if (outcome === 'void') return;
    if (outcome === 'lost' && this.#isOfSilence) {
      this.#silentNotBeforeMs = nowMs + SILENT_TRIAL_EVERY_MS;
      this.#notBeforeMs = Math.max(this.#notBeforeMs, this.#silentNotBeforeMs);
      return;
    }
    this.#notBeforeMs = nowMs + this.#everyMs;
    this.#everyMs = outcome === 'won' ? TRIAL_EVERY_MS : Math.min(this.#everyMs * 2, MAX_TRIAL_EVERY_MS);
  }
}
