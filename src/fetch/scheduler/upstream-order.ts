import { isNarswarmError } from '../../errors.ts';
import type { Upstream } from '../../http/upstream.ts';
import { TrialGate } from './hedge.ts';
import { SourceRate } from '../../discovery/source-rate.ts';

/** Lies about one NAR after which an upstream is not asked for it again. A first lie may be an accident. */
const MAX_LIES = 2;
/**
 * Number of wrong NARs from one upstream alone after which the upstream counts as a liar, and is asked last
 * for all NARs.
 */
const PROVEN_LIES = 2;
/** The same number for a cache that was found on the network. */
const PROVEN_LIES_OF_ANNOUNCED = 1;
/** Missing NARs in a row after which an upstream is asked after the others. */
const MISSES = 2;
/** Least part of the fastest upstream's rate. A slower upstream is asked after it. */
const SLOW = 0.5;

export interface UpstreamMerit {
  readonly rate: SourceRate;
  readonly gate: TrialGate;
  isFailing: boolean;
  /** True if it did not answer the last request at all. */
  isUnreachable: boolean;
  /** Missing NARs in a row. */
  misses: number;
  /** NARs with wrong bytes that all came from it, or with other contents than signed in the file that it describes. */
  provenLies: number;
}

/** Chooses the order of upstreams. It is the given order, except that failing, lying or slow ones come last. */
export class UpstreamOrder {
  readonly #upstreams: Upstream[] = [];
  /** Also of upstreams that have gone, since a request to them may still be running. */
  readonly #merits = new Map<Upstream, UpstreamMerit>();

  constructor(upstreams: readonly Upstream[]) {
    this.update(upstreams);
  }

  /** The present upstreams, in the given order. The array is always the same one. */
  get upstreams(): readonly Upstream[] {
    return this.#upstreams;
  }

  /** Takes the present upstreams, in the order of asking. @returns true if one of them is new */
  update(present: readonly Upstream[]): boolean {
    const fresh = present.filter((upstream) => !this.#merits.has(upstream));
    for (const upstream of fresh) this.#merits.set(upstream, newMerit());
    this.#upstreams.splice(0, this.#upstreams.length, ...present);
    return fresh.length > 0;
  }

  /** Returns the merit of an upstream. It must be one of the given ones. */
  meritOf(upstream: Upstream): UpstreamMerit {
    const merit = this.#merits.get(upstream);
    if (merit === undefined) throw new Error(`${upstream.name} is none of the upstreams`);
    return merit;
  }

  /** @param lies how often each upstream, by name, sent wrong bytes of the NAR */
  of(lies: ReadonlyMap<string, number>, nowMs = performance.now()): Upstream[] {
    const fastest = Math.max(...this.#upstreams.map((upstream) => this.meritOf(upstream).rate.rate(nowMs) ?? 0));
    const count = (upstream: Upstream): number => lies.get(upstream.name) ?? 0;
    const rank = (upstream: Upstream): number => {
      const { isFailing, misses, rate } = this.meritOf(upstream);
      const isSlow = (rate.rate(nowMs) ?? Infinity) < fastest * SLOW;
      return (
        (this.isLiar(upstream) ? 16 : 0) +
        count(upstream) * 4 +
        (isFailing || misses >= MISSES ? 2 : 0) +
        (isSlow ? 1 : 0)
      );
    };
    return this.#upstreams.filter((one) => count(one) < MAX_LIES).toSorted((a, b) => rank(a) - rank(b));
  }

  /** Returns true if an upstream has sent so many wrong NARs that it is asked only if no other source has the NAR. */
  isLiar(upstream: Upstream): boolean {
    const { provenLies = 0 } = this.#merits.get(upstream) ?? {}; // an announced cache may be gone
    return provenLies >= (upstream.isAnnounced ? PROVEN_LIES_OF_ANNOUNCED : PROVEN_LIES);
  }

  /** True if none of the upstreams answers, and there are some. */
  get areUnreachable(): boolean {
    return this.#upstreams.length > 0 && this.#upstreams.every((upstream) => this.meritOf(upstream).isUnreachable);
  }

  /** Records a wrong NAR that came from this upstream alone, or that it has described wrongly. */
  noteLie(upstream: Upstream | undefined): void {
    const merit = upstream && this.#merits.get(upstream);
    if (merit !== undefined) merit.provenLies++;
  }

  /** Records the outcome of asking an upstream. */
  note(upstream: Upstream, failure: unknown): void {
    const merit = this.meritOf(upstream);
    merit.misses = isNarswarmError(failure, 'NAR_UNAVAILABLE', 'HTTP_NOT_FOUND') ? merit.misses + 1 : 0;
    merit.isUnreachable = isNarswarmError(failure, 'HTTP_FAILED') && failure.facts.status === undefined;
    if (failure === undefined) merit.isFailing = false;
    else if (isNarswarmError(failure, 'HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED')) merit.isFailing = true;
  }
}

function newMerit(): UpstreamMerit {
  const isGood = { isFailing: false, isUnreachable: false, misses: 0, provenLies: 0 };
  return { rate: new SourceRate(), gate: new TrialGate(), ...isGood };
}
