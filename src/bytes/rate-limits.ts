import { RateLimit, type DirectionLimit, type RateClock } from './rate-limit.ts';
import type { RateSchedule } from './rate-schedule.ts';

/** The rates that the user has set, of everything and of what passes beyond the local network. */
export interface Rates {
  readonly download?: RateSchedule | undefined;
  readonly upload?: RateSchedule | undefined;
  readonly wanDownload?: RateSchedule | undefined;
  readonly wanUpload?: RateSchedule | undefined;
}

/** All rate limits of a process. Those of the same direction count the same bytes, whoever asks. */
export class RateLimits {
  readonly download: DirectionLimit;
  readonly upload: DirectionLimit;

  /** @param isNear says if a host is on the local network; asked only if there is a limit beyond it */
  constructor(rates: Rates, isNear: (host: string) => boolean, clock?: RateClock) {
    this.download = limitOf(rates.download, rates.wanDownload, isNear, clock);
    this.upload = limitOf(rates.upload, rates.wanUpload, isNear, clock);
  }
}

function limitOf(
  all: RateSchedule | undefined,
  beyond: RateSchedule | undefined,
  isNear: (host: string) => boolean,
  clock: RateClock | undefined,
): DirectionLimit {
  const limit = new RateLimit(all, { clock });
  if (beyond === undefined) return limit;
  const wan = new RateLimit(beyond, { within: limit, clock });
  return {
    get isUsedUp() {
      return wan.isUsedUp; // or the one that it is within
    },
    towards: (host) => (isNear(host) ? limit : wan),
  };
}
