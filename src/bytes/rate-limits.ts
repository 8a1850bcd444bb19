import { RateLimit, type DirectionLimit, type RateClock } from './rate-limit.ts';
import type { RateSchedule } from './rate-schedule.ts';

/** The rates that the user has set: for all traffic, and for traffic beyond the local network. */
export interface Rates {
  readonly download?: RateSchedule | undefined;
  readonly upload?: RateSchedule | undefined;
  readonly wanDownload?: RateSchedule | undefined;
  readonly wanUpload?: RateSchedule | undefined;
}

/** All rate limits of a process. Limits of the same direction count the same bytes. */
export class RateLimits {
  readonly download: DirectionLimit;
  readonly upload: DirectionLimit;
  /** The limits that the user has set, by their names. */
  readonly #set = new Map<keyof Rates, RateLimit>();
  #isShared = false;

  /** @param isNear returns true for a host on the local network. Called only if there is a limit beyond it */
  constructor(rates: Rates, isNear: (host: string) => boolean, clock?: RateClock) {
    const limitOf = (name: keyof Rates, within?: RateLimit): RateLimit => {
      const limit = new RateLimit(rates[name], { clock, within });
      if (rates[name] !== undefined) this.#set.set(name, limit);
      return limit;
    };
    const directionOf = (all: keyof Rates, beyond: keyof Rates): DirectionLimit => {
      const limit = limitOf(all);
      if (rates[beyond] === undefined) return limit;
      const wan = limitOf(beyond, limit);
      return {
        get isUsedUp() {
          return wan.isUsedUp; // includes the limit that it is within
        },
        towards: (host) => (isNear(host) ? limit : wan),
      };
    };
    this.download = directionOf('download', 'wanDownload');
    this.upload = directionOf('upload', 'wanUpload');
  }

  /** Replaces a limit that was set from the beginning. @returns false if there was none: connections do not count for it */
  change(name: keyof Rates, schedule: RateSchedule | undefined): boolean {
    const limit = this.#set.get(name);
    limit?.setSchedule(schedule ?? []);
    return limit !== undefined;
  }

  /**
   * Returns the limits that the user has set, by their names, for sharing with other processes. Returns undefined from
   * the second call on.
   */
  claimForSharing(): ReadonlyMap<string, RateLimit> | undefined {
    if (this.#isShared) return undefined;
    this.#isShared = true;
    return this.#set;
  }
}
