import { NarswarmError } from '../errors.ts';

/** Timers stand still while a machine sleeps, and the clock does not: so it is looked at this often. */
const LOOK_AGAIN_MS = 30_000;

/** A signal that aborts with INTERRUPTED when the clock next shows a time of day. */
export interface TimeWindow extends AsyncDisposable {
  readonly signal: AbortSignal;
}

/** @param until `HH:MM` of this machine's clock; undefined: never */
export function timeWindow(until: string | undefined, now: Date): TimeWindow {
  const stop = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  if (until !== undefined) {
    const endMs = endOf(until, now).getTime();
    const look = (): void => {
      const leftMs = endMs - Date.now();
      if (leftMs > 0) timer = setTimeout(look, Math.min(leftMs, LOOK_AGAIN_MS));
      else {
        const message = `stopped at ${until}; the next update goes on from here`;
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
 * When the clock next shows `HH:MM`; what it shows right now is tomorrow's. A time that it leaves out in spring is an hour
 * later; of one that it shows twice in autumn the first counts.
 */
export function endOf(until: string, now: Date): Date {
  const [hours = 0, minutes = 0] = until.split(':').map(Number);
  const end = new Date(now);
  end.setHours(hours, minutes, 0, 0);
  if (end <= now) end.setDate(end.getDate() + 1);
  return end;
}
