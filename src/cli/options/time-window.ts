import { NarswarmError } from '../../errors.ts';

/** Interval of checks of the clock: timers stop while a machine sleeps, but the clock does not. */
const LOOK_AGAIN_MS = 30_000;

/** A signal that aborts with INTERRUPTED when the clock next shows a time of day. */
export interface TimeWindow extends AsyncDisposable {
  readonly signal: AbortSignal;
}

/** @param until `HH:MM` of this machine's clock. Undefined: never */
export function timeWindow(until: string | undefined, now: Date): TimeWindow {
  const stop = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  if (until !== undefined) {
    const endMs = endOf(until, now).getTime();
    const look = (): void => {
      const leftMs = endMs - Date.now();
      if (leftMs > 0) timer = setTimeout(look, Math.min(leftMs, LOOK_AGAIN_MS));
      else {
        const message = `stopped at ${until}; the next update continues from here`;
        stop.abort(new NarswarmError('INTERRUPTED', message, { facts: { until } }));
      }
    };
    look();
  }
  return {
    signal: stop.signal,
    [Symbol.asyncDispose]: () => {
      clearTimeout(timer);
      return Promise.resolve();
    },
  };
}

/**
 * Returns when the clock next shows `HH:MM`. The current minute counts as tomorrow's. In spring, a time that is skipped
 * counts as one hour later. In autumn, the first of two equal times counts.
 */
export function endOf(until: string, now: Date): Date {
  const [hours = 0, minutes = 0] = until.split(':').map(Number);
  const end = new Date(now);
  end.setHours(hours, minutes, 0, 0);
  if (end <= now) end.setDate(end.getDate() + 1);
  return end;
}
