import { RateLimit, type DirectionLimit, type RateClock } from './rate-limit.ts';
import type { RateSchedule } from './rate-schedule.ts';
import { YieldingLimit } from './yielding-limit.ts';

/** The rates that the user has set: for all traffic, and for traffic beyond the local network. */
export interface Rates {
  readonly download?: RateSchedule | undefined;
  readonly upload?: RateSchedule | undefined;
  readonly wanDownload?: RateSchedule | undefined;
  readonly wanUpload?: RateSchedule | undefined;
}

/** The rate limits of one piece of work. */
export interface Limits {
  readonly download: DirectionLimit;
  readonly upload: DirectionLimit;
  /** The limit that yields to other traffic on the internet line. Undefined: none does. */
  readonly yielding?: YieldingLimit | undefined;
  /** Returns true for a host on the local network. */
  isNear(host: string): boolean;
  /**
   * Returns the limits that the user has set, by their names, for sharing with other processes. Returns undefined from
   * the second call on.
   */
  claimForSharing(): ReadonlyMap<string, RateLimit> | undefined;
}

/** All rate limits of a process. Limits of the same direction count the same bytes. */
export class RateLimits implements Limits {
  readonly download: DirectionLimit;
  readonly upload: DirectionLimit;
  /** The limits that the user has set, by their names. */
  readonly #set = new Map<keyof Rates, RateLimit>();
  readonly #wanDownload: RateLimit;
  readonly #isNear: (host: string) => boolean;
  readonly #clock: RateClock | undefined;
  #isShared = false;

  /** @param isNear returns true for a host on the local network. Called only if there is a limit beyond it */
  constructor(rates: Rates, isNear: (host: string) => boolean, clock?: RateClock) {
    this.#isNear = isNear;
    this.#clock = clock;
    const limitOf = (name: keyof Rates, within?: RateLimit): RateLimit => {
      const limit = new RateLimit(rates[name], { clock, within });
      if (rates[name] !== undefined) this.#set.set(name, limit);
      return limit;
    };
    const directionOf = (all: keyof Rates, beyond: keyof Rates): readonly [DirectionLimit, wan: RateLimit] => {
      const limit = limitOf(all);
      if (rates[beyond] === undefined) return [limit, limit];
      const wan = limitOf(beyond, limit);
      return [split(limit, wan, isNear), wan];
    };
    [this.download, this.#wanDownload] = directionOf('download', 'wanDownload');
    [this.upload] = directionOf('upload', 'wanUpload');
  }

  /** Replaces a limit that was set from the beginning. @returns false if there was none: connections do not count for it */
  change(name: keyof Rates, schedule: RateSchedule | undefined): boolean {
    const limit = this.#set.get(name);
    limit?.setSchedule(schedule ?? []);
    return limit !== undefined;
  }

  isNear(host: string): boolean {
    return this.#isNear(host);
  }

  /** Returns these limits for work in the background: it yields to other traffic when it downloads from the internet. */
  forBackground(): Limits {
    const { download, upload } = this;
    const yielding = new YieldingLimit({ within: this.#wanDownload, clock: this.#clock });
    return {
      download: split(download, yielding, this.#isNear),
      upload,
      yielding,
      isNear: this.#isNear,
      claimForSharing: () => this.claimForSharing(),
    };
  }

  claimForSharing(): ReadonlyMap<string, RateLimit> | undefined {
    if (this.#isShared) return undefined;
    this.#isShared = true;
    return this.#set;
  }
}

/** @param beyond is within the limit for hosts on the local network */
function split(near: DirectionLimit, beyond: RateLimit, isNear: (host: string) => boolean): DirectionLimit {
  return {
    yields: beyond.yields,
    get isUsedUp() {
      return beyond.isUsedUp;
    },
    towards: (host) => (isNear(host) ? near.towards(host) : beyond),
  };
}
