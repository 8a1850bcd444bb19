/** Loaded into a process by {@link wrongClock}: its clock is wrong by some days. */
const days = process.env['WRONG_CLOCK_DAYS'];

if (days !== undefined) {
  const Right = Date;
  const byMs = Number(days) * 24 * 3_600_000;
  globalThis.Date = class extends Right {
    constructor(...args: readonly unknown[]) {
      super(...((args.length === 0 ? [Right.now() + byMs] : args) as [number]));
    }

    static override now(): number {
      return Right.now() + byMs;
    }
  } as DateConstructor;
}

/** Environment of a process whose clock is wrong. */
export function wrongClock({ days: by }: { readonly days: number }): Record<string, string> {
  return { NODE_OPTIONS: `--import ${import.meta.url}`, WRONG_CLOCK_DAYS: String(by) };
}
