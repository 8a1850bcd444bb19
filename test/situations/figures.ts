import type { Run } from '../support/lab.ts';

/** Bytes that an update took from peers or upstreams, from its report. */
export function bytesFrom(run: Run, source: 'peers' | 'upstream'): number {
  const bytes = run.events.findLast(({ event }) => event === 'subscription')?.['bytes'] as
    | Record<string, number>
    | undefined;
  return bytes?.[source] ?? 0;
}

/** Counts how often each line occurs. */
export function countLines(texts: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const line of texts.flatMap((text) => text.split('\n')).filter((text) => text !== ''))
    counts.set(line, (counts.get(line) ?? 0) + 1);
  return counts;
}

export function mb(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

export function kB(bytes: number): string {
  return String(Math.round(bytes / 1000));
}
