const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Says how long something still takes, as people say it: `less than 5 s left`, `40 s left`, `2 min left`, `3 h left`. */
export function leftInWords(seconds: number): string {
  if (seconds < 5) return 'less than 5 s left';
  if (seconds <= 55) return `${roundUp(seconds, 5)} s left`;
  if (seconds <= 10 * MINUTE) return `${roundUp(seconds, MINUTE) / MINUTE} min left`;
  if (seconds <= 55 * MINUTE) return `${roundUp(seconds, 5 * MINUTE) / MINUTE} min left`;
  if (seconds <= 2 * HOUR) return `${roundUp(seconds, 30 * MINUTE) / HOUR} h left`;
  if (seconds <= DAY) return `${roundUp(seconds, HOUR) / HOUR} h left`;
  return 'more than a day left';
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
