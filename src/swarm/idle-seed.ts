import type { OpenTorrent } from './open-torrent.ts';

/** When seeds and connections that nobody uses are closed. */
export interface IdleTimes {
  /** Milliseconds that a seed stays open without a peer. */
  readonly seedMs: number;
  /** Milliseconds that a peer of a seed may ask for nothing. */
  readonly peerMs: number;
}

/**
 * Closes a seed that nobody uses, so that ten thousand seeds cost no more than the busy ones, and peers that sit on a
 * connection, so that a few of them cannot keep everybody else out.
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
