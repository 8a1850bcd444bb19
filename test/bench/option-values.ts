/** Values of the benchmarks' options. */

/** @throws Error naming the option, unless the text is a whole number from 1 */
export function countOf(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${option} takes a whole number from 1, not ${text}`);
  return value;
}

/** @throws Error naming the option, unless the text is a number above 0 */
export function positive(option: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`--${option} takes a number above 0, not ${text}`);
  return value;
}

/** @throws Error naming the option, unless the text is one of `all` */
export function oneOf<T extends string>(option: string, text: string, all: readonly T[]): T {
  const found = all.find((name) => name === text);
  if (found === undefined) throw new Error(`--${option} takes ${all.join(', ')}, not ${text}`);
  return found;
}
