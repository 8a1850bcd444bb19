import { RateMeter } from '../../bytes/rate-meter.ts';

/** Time for peers to send a NAR before something else is tried, in milliseconds. */
export interface Patience {
  /** Time until the first byte. */
  readonly firstByteMs: number;
  /** Time between bytes. */
  readonly stallMs: number;
}

/** Time for a NAR's peers to send the first byte, or the next, if an upstream can be asked. */
const WITH_UPSTREAM: Patience = { firstByteMs: 1_500, stallMs: 3_000 };
const ALONE: Patience = { firstByteMs: Infinity, stallMs: 3_000 };
/** Time for begun NARs while the line may be out. They stay with their sources. */
const LINE_OUT: Patience = { firstByteMs: Infinity, stallMs: 20_000 };
const AT_AN_END: Patience = { firstByteMs: 0, stallMs: 0 };
/**
 * Time without a byte from any peer after which upstreams take NARs that wait for peers, too. It no longer applies once
 * a NAR has waited for clients without result.
 */
const PROBE_MS = 3_000;
/** Time from one trial of an idle upstream to the next. Doubled after each trial that brought nothing. */
const TRIAL_EVERY_MS = 15_000;
const MAX_TRIAL_EVERY_MS = 240_000;
/** Time after which upstreams that took a NAR from peers are compared with them. */
const HELP_MS = 1_500;
/** Time without a byte from any source after which the line counts as out. */
const SILENCE_MS = 1_000;
/** Time after NARs were given during which members may be about to announce them. */
const EARLY_MS = 1_500;
/** Time without a byte from upstreams after which members that send are asked for a NAR. Doubled with each time. */
const UPSTREAM_SILENCE_MS = 1_500;
/** Factor of this time if no source sends anything: the line may be out. */
const LINE_OUT_FACTOR = 2;
/**
 * Limit on the total time that idle upstreams wait for NARs that another process should fetch from its own upstream.
 */
const SHARE_MS = 2_000;
/** The same limit as a part of the elapsed time: no other process can slow a run down by more. */
const SHARE_PART = 0.25;
/**
 * The same limits for claims of other processes that they are fetching these NARs, if their hosts have given something:
 * above them no claim is believed. A liar may repeat its claims under any number of names.
 */
const CLAIMS_MS = 10_000;
const CLAIMS_PART = 0.5;
/** Longest time between two looks that counts: in a longer one, this process did not run. */
const MAX_LOOK_MS = 1_000;
/** The same for time that was waited: on a machine with so much to do, an upstream would have been no faster. */
const MAX_WAIT_MS = 300;
/** Time after a delay by our own limit during which no source counts as slow. */
const HELD_BACK_MS = 2_000;
/** Time without progress after which NARs are no longer requested from upstreams that do not answer. */
const OUTAGE_MS = 30_000;
/** Without an upstream: default time without progress after which the run gives up. */
const STANDSTILL_MS = 60_000;

/**
 * Decides which source gets the next NAR, by the bytes so far: peers first, then an upstream if peers send nothing or
 * are slower. Keeps the time and the rates. Knows nothing about lanes.
 */
export class LanePolicy {
  /** False if everything must come from peers. */
  readonly hasUpstream: boolean;
  readonly #standstillMs: number;
  readonly #now: () => number;
  readonly #isHeldBack: () => boolean;
  readonly #beganAtMs: number;
  /** When the last NARs were given. Before that, no source could send them. */
  #givenAtMs: number;
  readonly #peerRate = new RateMeter();
  readonly #upstreamRate = new RateMeter();
  #peerBytes = 0;
  /** True once a NAR has waited for clients without result. */
  #hasWaited = false;
  #upstreamBytes = 0;
  /** Time for which upstreams have been at work. */
  #upstreamMs = 0;
  #lastByteAtMs: number;
  /** Time of the last progress, which ends a standstill. */
  #progressAtMs: number;
  #verifiedAtMs: number;
  /** False from a lie until the next verified bytes. Meanwhile, other bytes do not count. */
  #isTrusting = true;
  #triedAtMs = -Infinity;
  /** Times of the last byte of a peer, and of the last byte of upstreams or the first request to them. */
  #peerByteAtMs = -Infinity;
  #upstreamAtMs = Infinity;
  #heldBackAtMs = -Infinity;
  /** Time for which idle upstreams have waited for other processes. */
  #waitedMs = 0;
  #lookedAtMs: number;
  #trialEveryMs = TRIAL_EVERY_MS;

  /** @param options.isHeldBack true while our own limit delays everything: then our limit makes peers slow */
  constructor(options: {
    hasUpstream: boolean;
    standstillMs?: number | undefined;
    isHeldBack?: () => boolean;
    now?: () => number;
  }) {
    this.#isHeldBack = options.isHeldBack ?? (() => false);
    this.hasUpstream = options.hasUpstream;
    this.#standstillMs = options.standstillMs ?? STANDSTILL_MS;
    this.#now = options.now ?? (() => performance.now());
    this.#beganAtMs = this.#givenAtMs = this.#now();
    this.#lastByteAtMs = this.#progressAtMs = this.#verifiedAtMs = this.#lookedAtMs = this.#beganAtMs;
  }

  /** Records received payload. */
  onBytes(source: 'peers' | 'upstream', bytes: number): void {
    const now = this.#now();
    this.#lastByteAtMs = now;
    if (this.#isTrusting || source === 'upstream') this.#progressAtMs = now;
    if (source === 'peers') {
      this.#peerBytes += bytes;
      this.#peerByteAtMs = now;
    } else {
      this.#trialEveryMs = TRIAL_EVERY_MS;
      this.#upstreamAtMs = now;
      this.#upstreamBytes += bytes;
    }
    (source === 'peers' ? this.#peerRate : this.#upstreamRate).add(bytes, now);
  }

  /** Records that there are more NARs to fetch: no source had a chance to send them. */
  onMore(): void {
    this.#givenAtMs = this.#progressAtMs = this.#now();
  }

  /** Records that an upstream is asked while no other one was at work. */
  onUpstreamAsked(): void {
    this.#upstreamAtMs = this.#now();
  }

  /** Records verified bytes of a peer. */
  onVerified(): void {
    this.#isTrusting = true;
    this.#progressAtMs = this.#verifiedAtMs = this.#now();
  }

  /** Records that clients have sent no byte of a NAR within the time for that. */
  onWaited(): void {
    this.#hasWaited = true;
  }

  /** Records wrong bytes of a peer. Bytes since the last verified ones do not count as progress. */
  onLie(): void {
    this.#isTrusting = false;
    this.#progressAtMs = this.#verifiedAtMs;
  }

  /** Records that a NAR was left to members since upstreams are silent. That counts as a trial of theirs. */
  onLeft(): void {
    this.#triedAtMs = this.#now();
  }

  /** Records that an upstream failed to deliver a NAR that it took from peers. */
  onFailedTrial(): void {
    this.#trialEveryMs = Math.min(this.#trialEveryMs * 2, MAX_TRIAL_EVERY_MS);
  }

  /**
   * Records the state of upstreams since the last call: they worked, only waited for other processes, or were idle.
   * Waiting does not count while members send at least as fast as our upstreams did: then it does not slow the run
   * down.
   */
  onLook(upstreams: 'work' | 'wait' | 'rest'): void {
    const now = this.#now();
    const pastMs = Math.min(MAX_LOOK_MS, now - this.#lookedAtMs);
    if (upstreams === 'work') this.#upstreamMs += pastMs;
    if (upstreams === 'wait' && !this.#isWaitPaid(now)) this.#waitedMs += Math.min(pastMs, MAX_WAIT_MS);
    this.#lookedAtMs = now;
  }

  #isWaitPaid(nowMs: number): boolean {
    const ours = this.upstreamBytesPerSec;
    return ours !== undefined && this.#isTrusting && this.#peerRate.rate(nowMs) >= ours;
  }

  /** Average rate of our upstreams while they worked. Undefined if they have sent nothing yet. */
  get upstreamBytesPerSec(): number | undefined {
    if (this.#upstreamBytes === 0 || this.#upstreamMs === 0) return undefined;
    return (this.#upstreamBytes * 1000) / this.#upstreamMs;
  }

  /** Present rate of all peers. */
  get peersBytesPerSec(): number {
    return this.#peerRate.rate(this.#now());
  }

  /**
   * Returns true if upstreams have turned out to be much slower than the peers from which they took a NAR.
   *
   * @param atMs when the upstreams were asked for it
   * @param peersBytesPerSec the rate of the peers then
   */
  wasHelpInVain(atMs: number, peersBytesPerSec: number): boolean {
    const now = this.#now();
    return now - atMs > HELP_MS && this.#upstreamRate.rate(now) * 2 < peersBytesPerSec;
  }

  /** True for the first moment after the last NARs were given. */
  get isEarly(): boolean {
    return this.#now() - this.#givenAtMs < EARLY_MS;
  }

  /** True while it is worth waiting for a NAR that another process should fetch, or promises to. */
  get isSharing(): boolean {
    return this.#mayWait(SHARE_MS, SHARE_PART);
  }

  /** True while claims of other processes that they fetch a NAR are believed if their hosts have given something. */
  get areClaimsBelieved(): boolean {
    return this.#mayWait(CLAIMS_MS, CLAIMS_PART);
  }

  /** Returns true while idle upstreams have waited for less than this time, or this part of the elapsed time. */
  #mayWait(forMs: number, part: number): boolean {
    return this.#waitedMs < Math.max(forMs, part * (this.#now() - this.#beganAtMs));
  }

  /** True if members send a NAR sooner than an upstream would finish it. */
  get areMembersFaster(): boolean {
    const now = this.#now();
    const peerRate = this.#peerRate.rate(now);
    return peerRate === 0 || peerRate > this.#upstreamRate.rate(now);
  }

  /**
   * Returns true if upstreams have been silent for so long that a member should send a NAR instead. They have more time
   * if members send nothing either, and after each time.
   *
   * @param atMs when the upstreams were asked for the NAR
   * @param timesLeft how often it was left to members before
   */
  areUpstreamsSilent(atMs: number, timesLeft: number): boolean {
    const fromMs = Math.max(atMs, this.#upstreamAtMs);
    const patienceMs = UPSTREAM_SILENCE_MS * 2 ** timesLeft * (this.#peerByteAtMs > fromMs ? 1 : LINE_OUT_FACTOR);
    return this.#now() - fromMs > patienceMs;
  }

  /** True if no source has sent a good byte for so long that a run without an upstream gives up. */
  get standsStill(): boolean {
    return this.#now() - this.#progressAtMs > this.#standstillMs;
  }

  /** True if no source has sent a good byte for so long that upstreams that do not answer are given up. */
  get isOutageLong(): boolean {
    return this.#now() - this.#progressAtMs > Math.min(OUTAGE_MS, this.#standstillMs);
  }

  /** True if no source has sent a byte for a moment: then the line is to blame, not a source. */
  get isLineSilent(): boolean {
    return this.#now() - this.#lastByteAtMs > SILENCE_MS;
  }

  /** @param haveFailed true for a NAR that the upstreams have failed to give: then only peers are left */
  patience(haveFailed = false): Patience {
    if (this.hasUpstream && !haveFailed) return WITH_UPSTREAM;
    if (this.standsStill) return AT_AN_END;
    return this.isLineSilent ? LINE_OUT : ALONE;
  }

  /**
   * Returns true if an upstream should take a NAR that waits for peers or is arriving from them. The call may begin a
   * trial.
   */
  upstreamMayHelp(anyPeer: boolean): boolean {
    if (!this.hasUpstream) return false;
    const now = this.#now();
    const isEarly = now - this.#givenAtMs < PROBE_MS;
    const wasLeft = this.#triedAtMs !== -Infinity;
    if (this.#peerBytes === 0 && !wasLeft) return !isEarly || !anyPeer || this.#hasWaited;
    if (this.#isHeldBack()) this.#heldBackAtMs = now;
    if (isEarly || now - this.#heldBackAtMs < HELD_BACK_MS) return false;
    const upstreamRate = this.#upstreamRate.rate(now);
    if (upstreamRate > 0) return upstreamRate > this.#peerRate.rate(now) / 2;
    if (now - this.#triedAtMs < this.#trialEveryMs) return false;
    this.#triedAtMs = now; // takes one NAR to learn the upstream's rate
    return true;
  }
}
