import { NarswarmError } from '../errors.ts';

/** The longest that a timer of Node can wait; a day is far below. */
const DAY_MS = 86_400_000;

/** A signal that aborts with INTERRUPTED when the clock next shows a time of day. */
export interface TimeWindow extends AsyncDisposable {
  readonly signal: AbortSignal;
}

/** @param until `HH:MM` of this machine's clock; undefined: never */
export function timeWindow(until: string | undefined, now: Date): TimeWindow {
  const stop = new AbortController();
  const timer =
    until === undefined
      ? undefined
      : setTimeout(
          () => {
            stop.abort(new NarswarmError('INTERRUPTED', `stopped at ${until}; the next update goes on from here`));
          },
          msUntil(until, now),
        );
  return {
    signal: stop.signal,
    [Symbol.asyncDispose]: () => {
      clearTimeout(timer);
      return Promise.resolve();
    },
  };
}

/** Milliseconds until the clock shows `HH:MM` again, at most a day. */
export function msUntil(until: string, now: Date): number {
  const [hours = 0, minutes = 0] = until.split(':').map(Number);
  const end = new Date(now);
  end.setHours(hours, minutes, 0, 0);
  if (end <= now) end.setDate(end.getDate() + 1);
  return Math.min(DAY_MS, end.getTime() - now.getTime());
}
