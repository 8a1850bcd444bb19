/** Loaded into a process by {@link wrongClock}: its clock is wrong. */
const by = process.env['WRONG_CLOCK_BY_MS'];

if (by !== undefined) {
  const Right = Date;
  const byMs = Number(by);
  globalThis.Date = class extends Right {
    constructor(...args: readonly unknown[]) {
      super(...((args.length === 0 ? [Right.now() + byMs] : args) as [number]));
    }

    static override now(): number {
      return Right.now() + byMs;
    }
  } as DateConstructor;
}

/** Environment of a process whose clock is wrong by some days, or shows a time now. */
export function wrongClock(how: { readonly days: number } | { readonly shows: Date }): Record<string, string> {
  const byMs = 'days' in how ? how.days * 24 * 3_600_000 : how.shows.getTime() - Date.now();
  return { NODE_OPTIONS: `--import ${import.meta.url}`, WRONG_CLOCK_BY_MS: String(byMs) };
}
