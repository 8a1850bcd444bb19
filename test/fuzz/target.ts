/** A reader of bytes from strangers. */
export interface FuzzTarget {
  /** Sound inputs, which are mutated. Not empty. */
  readonly corpus: readonly Buffer[];
  /** Tokens of the format, to be inserted. Not empty. */
  readonly words: readonly string[];
  /** Number of inputs as a part of that of other targets, for slow readers. Default: 1 */
  readonly share?: number;
  /**
   * Reads one input. Rejecting it in the way that callers expect is fine.
   *
   * @throws anything that a caller does not expect: that is a finding
   */
  readonly read: (input: Buffer) => void | Promise<void>;
  /** Checks after the last input that the reader still works, and frees it. */
  readonly finish?: () => void | Promise<void>;
}

/** Runs `work` and ignores errors with one of these codes, which callers expect. @throws any other error */
export function expecting(codes: readonly string[], work: () => void): void {
  try {
    work();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (typeof code !== 'string' || !codes.includes(code)) throw error;
  }
}
