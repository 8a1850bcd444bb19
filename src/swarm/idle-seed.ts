import type { OpenTorrent } from './open-torrent.ts';

/** Times after which unused seeds and connections are closed. */
export interface IdleTimes {
  /** Milliseconds that a seed stays open without a peer. */
  readonly seedMs: number;
  /** Milliseconds that a peer of a seed may ask for nothing. */
  readonly peerMs: number;
}

/**
 * Closes a seed that no peer uses, so that ten thousand seeds cost no more than the busy ones. Disconnects peers that
 * ask for nothing, so that they cannot keep others out.
 */
export function closeWhenIdle(seed: OpenTorrent, { seedMs, peerMs }: IdleTimes): void {
  let aloneSinceMs = performance.now();
  const timer = setInterval(
    () => {
      const now = performance.now();
      for (const connection of seed.connections) if (now - connection.activeAtMs > peerMs) connection.destroy();
      if (seed.connections.length > 0) aloneSinceMs = now;
      else if (now - aloneSinceMs >= seedMs) void seed.close();
    },
    Math.min(seedMs, peerMs) / 4,
  ).unref();
  seed.handle.once('close', () => clearInterval(timer));
}

/** Returns the seed that was opened, and whose peers have asked for something, longest ago. Never the new one. */
export function longestUnused(
  seeds: ReadonlyMap<OpenTorrent, { readonly openedAtMs: number }>,
  newest: OpenTorrent,
): OpenTorrent | undefined {
  const usedAtMs = ([{ connections }, { openedAtMs }]: readonly [
    OpenTorrent,
    { readonly openedAtMs: number },
  ]): number => Math.max(openedAtMs, ...connections.map((one) => one.activeAtMs));
  const others = [...seeds].filter(([one]) => one !== newest);
  return others.toSorted((a, b) => usedAtMs(a) - usedAtMs(b))[0]?.[0];
}
