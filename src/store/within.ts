/** What a promise gives if it does in time, or undefined. The work goes on; what it fails of later is nobody's concern. */
export async function withinMs<T>(durationMs: number, work: Promise<T>): Promise<T | undefined> {
  const { promise: isOver, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), durationMs);
  work.catch(() => undefined);
  try {
    return await Promise.race([work, isOver]);
  } finally {
    clearTimeout(timer);
  }
}
