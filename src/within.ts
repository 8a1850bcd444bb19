/**
 * Waits for a promise, for a limited time.
 *
 * @returns undefined after that time; the work continues, and its failure is ignored
 * @throws the error of the work within that time
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
