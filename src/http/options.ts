/** What a person may tune about HTTP, and the values used where they did not. */

export interface HttpClientOptions {
  /**
   * Sockets to one origin at a time; more requests wait in a queue, and waiting is never counted as a stall.
   * Default 25, which is also Nix's own `http-connections`: narinfos are latency-bound, so the number of
   * sockets is what sets their rate.
   */
  readonly connectionsPerOrigin?: number;
  /** How long TCP and TLS may take. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /**
   * No byte for so long, before the headers or within the body: the attempt has stalled. Default 10,000; kept to
   * within about a second, which is the resolution of undici's timers.
   */
  readonly stallTimeoutMs?: number;
  /** Extra attempts after the first; bytes gained start the count anew. Default 4. */
  readonly retries?: number;
  /** The first wait's upper bound; it doubles with each failure, with full jitter, up to 10 s. Default 250. */
  readonly backoffMs?: number;
  /** Default `narswarm`. */
  readonly userAgent?: string;
}

const DEFAULTS: Required<HttpClientOptions> = {
  connectionsPerOrigin: 25,
  connectTimeoutMs: 5_000,
  stallTimeoutMs: 10_000,
  retries: 4,
  backoffMs: 250,
  userAgent: 'narswarm',
};

/** `options` with every default filled in. */
export function resolveOptions(options: HttpClientOptions): Required<HttpClientOptions> {
  return { ...DEFAULTS, ...options };
}
