import { RateMeter } from '../bytes/rate-meter.ts';

/** How long a NAR waits for peers before something else is tried; milliseconds. */
export interface Patience {
  /** Until the first byte. */
  readonly firstByteMs: number;
  /** Between bytes. */
  readonly stallMs: number;
}

/** With an upstream to turn to, a NAR's peers have this long to send the first byte, or the next. */
const WITH_UPSTREAM: Patience = { firstByteMs: 1_500, stallMs: 3_000 };
const ALONE: Patience = { firstByteMs: Infinity, stallMs: 3_000 };
/** A line may be out for some seconds: what is begun then stays where it is. */
const LINE_OUT: Patience = { firstByteMs: Infinity, stallMs: 20_000 };
const AT_AN_END: Patience = { firstByteMs: 0, stallMs: 0 };
/** Peers alone have this long; without a byte from any of them upstreams then take NARs that wait for peers, too. */
const PROBE_MS = 3_000;
/** Time from one trial of an idle upstream to the next; doubled after each trial that gave nothing. */
const TRIAL_EVERY_MS = 15_000;
const MAX_TRIAL_EVERY_MS = 240_000;
/** Without a byte from any source for so long, the line is thought to be out. */
const SILENCE_MS = 1_000;
/** In the first moment members may be about to say what they have. */
const EARLY_MS = 1_500;
/** What another process is to fetch from an upstream is left to it for so long while nothing of it comes. */
const SHARE_MS = 2_000;
/** The same as a part of the time that has passed: it is not long after all that we had to fetch ourselves. */
const SHARE_PART = 0.25;
/** For so long after our own limit has held something back no source is thought to be slow. */
const HELD_BACK_MS = 2_000;
/** Without an upstream: default of how long all of it may stand still. */
const STANDSTILL_MS = 60_000;

/**
 * Decides who gets the next NAR, from what came so far: peers first, an upstream where they send nothing or turn out
 * slower than it is. Keeps the clock and the rates; knows nothing of lanes.
 */
export class LanePolicy {
  readonly #hasUpstream: boolean;
  readonly #standstillMs: number;
  readonly #now: () => number;
  readonly #isHeldBack: () => boolean;
  readonly #beganAtMs: number;
  readonly #peerRate = new RateMeter();
  readonly #upstreamRate = new RateMeter();
  #peerBytes = 0;
  #lastByteAtMs: number;
  /** When something last came that counts against a standstill. */
  #progressAtMs: number;
  #verifiedAtMs: number;
  /** False from a lie on until bytes were found right: till then no others count. */
  #isTrusting = true;
  #triedAtMs = -Infinity;
  #heldBackAtMs = -Infinity;
  /** When members last had something new for us. */
  #newsAtMs: number;
  #trialEveryMs = TRIAL_EVERY_MS;

  /**
   * @param options.isHeldBack true while our own limit holds everything back: then peers are as slow as we make them
   */
  constructor(options: {
    hasUpstream: boolean;
    standstillMs?: number | undefined;
    isHeldBack?: () => boolean;
    now?: () => number;
  }) {
    this.#isHeldBack = options.isHeldBack ?? (() => false);
    this.#hasUpstream = options.hasUpstream;
    this.#standstillMs = options.standstillMs ?? STANDSTILL_MS;
    this.#now = options.now ?? (() => performance.now());
    this.#beganAtMs = this.#lastByteAtMs = this.#progressAtMs = this.#verifiedAtMs = this.#newsAtMs = this.#now();
  }

  /** Takes down payload that came. */
  onBytes(source: 'peers' | 'upstream', bytes: number): void {
    const now = this.#now();
    this.#lastByteAtMs = now;
    if (this.#isTrusting || source === 'upstream') this.#progressAtMs = now;
    if (source === 'peers') this.#peerBytes += bytes;
    else this.#trialEveryMs = TRIAL_EVERY_MS;
    (source === 'peers' ? this.#peerRate : this.#upstreamRate).add(bytes, now);
  }

  /** Records that bytes of a peer were found right. */
  onVerified(): void {
    this.#isTrusting = true;
    this.#progressAtMs = this.#verifiedAtMs = this.#now();
  }

  /** Records that a peer has sent wrong bytes: what came since bytes were last found right was no progress. */
  onLie(): void {
    this.#isTrusting = false;
    this.#progressAtMs = this.#verifiedAtMs;
  }

  /** Takes down that an upstream could not deliver a NAR that it had taken from the peers. */
  onFailedTrial(): void {
    this.#trialEveryMs = Math.min(this.#trialEveryMs * 2, MAX_TRIAL_EVERY_MS);
  }

  /** Records that a member has something that it had not. */
  onNews(): void {
    this.#newsAtMs = this.#now();
  }

  /** True in the first moment. */
  get isEarly(): boolean {
    return this.#now() - this.#beganAtMs < EARLY_MS;
  }

  /** True while it is worth to wait for what another process fetches for us, too, from an upstream. */
  get isSharing(): boolean {
    const now = this.#now();
    const patienceMs = Math.max(SHARE_MS, SHARE_PART * (this.#newsAtMs - this.#beganAtMs));
    return now - this.#newsAtMs < patienceMs;
  }

  /** True if members send faster than an upstream would end what it is sending. */
  get areMembersFaster(): boolean {
    const now = this.#now();
    const peerRate = this.#peerRate.rate(now);
    return peerRate === 0 || peerRate > this.#upstreamRate.rate(now);
  }

  /** True if no source has sent a good byte for so long that a run without an upstream gives up. */
  get standsStill(): boolean {
    return this.#now() - this.#progressAtMs > this.#standstillMs;
  }

  /** True if no source at all has sent a byte for a moment: then it is the line, and none of them is to blame. */
  get isLineSilent(): boolean {
    return this.#now() - this.#lastByteAtMs > SILENCE_MS;
  }

  patience(): Patience {
    if (this.#hasUpstream) return WITH_UPSTREAM;
    if (this.standsStill) return AT_AN_END;
    return this.isLineSilent ? LINE_OUT : ALONE;
  }

  /** Whether an upstream should take a NAR that waits for peers, or is on its way from them. Asking may begin a trial. */
  upstreamMayHelp(anyPeer: boolean): boolean {
    if (!this.#hasUpstream) return false;
    const now = this.#now();
    const isEarly = now - this.#beganAtMs < PROBE_MS;
    if (this.#peerBytes === 0) return !isEarly || !anyPeer;
    if (this.#isHeldBack()) this.#heldBackAtMs = now;
    if (isEarly || now - this.#heldBackAtMs < HELD_BACK_MS) return false;
    const upstreamRate = this.#upstreamRate.rate(now);
    if (upstreamRate > 0) return upstreamRate > this.#peerRate.rate(now) / 2;
    if (now - this.#triedAtMs < this.#trialEveryMs) return false;
    this.#triedAtMs = now; // one NAR, to learn what the upstream is worth
    return true;
  }
}
