/**
 * Waits for a promise, but no longer than that.
 *
 * @returns undefined after that time; the work goes on, and its failure is then ignored
 * @throws what the work throws in that time
 */
export async function withinMs<T>(durationMs: number, work: Promise<T>): Promise<T | undefined> {
  const { promise: isOver, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), durationMs);
  try {
    return await Promise.race([work, isOver]); // handles a later rejection, too
  } finally {
    clearTimeout(timer);
  }
}
