/** A reader of bytes from strangers. */
export interface FuzzTarget {
  /** Sound inputs, from which the others are made. Not empty. */
  readonly corpus: readonly Buffer[];
  /** Tokens of the format, worth being inserted. Not empty. */
  readonly words: readonly string[];
  /** Part of the inputs of other targets that this one gets, if one takes long. Default: 1 */
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

/** Runs `work`; errors with one of these codes are what callers expect. @throws any other */
export function expecting(codes: readonly string[], work: () => void): void {
  try {
    work();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (typeof code !== 'string' || !codes.includes(code)) throw error;
  }
}
