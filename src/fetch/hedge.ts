/** Whether another source should be asked for what one is sending: decided from rates alone. */

/** A transfer is judged after so long. */
const SETTLE_MS = 1_500;
/** One that will have ended so soon is left to its source. */
const ENDS_SOON_MS = 2_000;
/** The other source has to be so many times as fast: measures are rough, and changing costs a round trip. */
const BETTER = 1.5;
/** A second source that has not overtaken the first by then has lost. */
const LOST_AFTER_MS = 3_000;
/** A second source has overtaken the first with so many times its bytes. */
const AHEAD = 1.25;
/** Time from one trial of a source to the next; doubled with each that it loses. */
const TRIAL_EVERY_MS = 15_000;
const MAX_TRIAL_EVERY_MS = 240_000;

/** A transfer from one source. */
export interface Flow {
  readonly ageMs: number;
  /** Bytes a second of this transfer alone. */
  readonly rate: number;
  readonly leftBytes: number;
}

/** A source that could be asked, too. */
export interface Candidate {
  /** Bytes a second over all its transfers; undefined if it is not known yet. */
  readonly rate: number | undefined;
  /** Transfers that it shares this rate among. */
  readonly flows: number;
  readonly mayTry: boolean;
}

/**
 * Decides whether to ask a second source for the rest of a transfer. `known`: it has turned out to be faster. `trial`: to
 * learn what it is worth. undefined: the first one keeps its work.
 *
 * @param isLineSilent no source at all has sent anything for a second: then it is the line, and none is to blame
 */
export function challengeOf(flow: Flow, candidate: Candidate, isLineSilent: boolean): 'known' | 'trial' | undefined {
  if (flow.ageMs < SETTLE_MS || flow.leftBytes * 1000 < flow.rate * ENDS_SOON_MS) return undefined;
  const share = (candidate.rate ?? 0) / (candidate.flows + 1);
  if (share > flow.rate * BETTER && !isLineSilent) return 'known';
  return candidate.mayTry ? 'trial' : undefined;
}

/** How a second source does against the first, from the bytes that each has sent since the second was asked. */
export function outcomeOf(second: {
  readonly ageMs: number;
  readonly bytes: number;
  readonly bytesOfFirst: number;
}): 'won' | 'lost' | undefined {
  if (second.bytes > second.bytesOfFirst * AHEAD) return 'won';
  return second.ageMs < LOST_AFTER_MS ? undefined : 'lost';
}

/** When a source may be tried again: one trial at a time, and less and less often while it loses. */
export class TrialGate {
  #isOpen = false;
  #notBeforeMs = -Infinity;
  #everyMs = TRIAL_EVERY_MS;

  mayTry(nowMs: number): boolean {
    return !this.#isOpen && nowMs >= this.#notBeforeMs;
  }

  begin(): void {
    this.#isOpen = true;
  }

  /** Ends a trial. `void`: it has told nothing, since the source does not have what it was asked for. */
  end(outcome: 'won' | 'lost' | 'void', nowMs: number): void {
    this.#isOpen = false;
    if (outcome === 'void') return;
    this.#notBeforeMs = nowMs + this.#everyMs;
    this.#everyMs = outcome === 'won' ? TRIAL_EVERY_MS : Math.min(this.#everyMs * 2, MAX_TRIAL_EVERY_MS);
  }
}
