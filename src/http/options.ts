/** Options of the HTTP client, and their defaults. */

export interface HttpClientOptions {
  /**
   * Sockets to one origin at a time; more requests wait in a queue, and waiting is never counted as a stall.
   * Default 25, which is also Nix's own `http-connections`: narinfos are latency-bound, so the number of
   * sockets is what sets their rate.
   */
  readonly connectionsPerOrigin?: number | undefined;
  /** How long TCP and TLS may take. Default 15,000. */
  readonly connectTimeoutMs?: number | undefined;
  /**
   * No byte for so long, before the headers or within the body: the attempt has stalled. Default 300,000, as long as Nix
   * waits; kept to within about a second, which is the resolution of undici's timers.
   */
  readonly stallTimeoutMs?: number | undefined;
  /** The same while somebody else can be asked. Default 5,000; never more than the above. */
  readonly hastyConnectTimeoutMs?: number | undefined;
  /**
   * Default 10,000; never more than the above. So long is waited within a body, too, where nobody else can be asked, and
   * twice as long after each failure: what has begun is gone on with over another connection.
   */
  readonly hastyStallTimeoutMs?: number | undefined;
  /** Extra attempts after the first; bytes gained reset the count. Default 4. */
  readonly retries?: number | undefined;
  /** The first wait's upper bound; it doubles with each failure, with full jitter, up to 10 s. Default 250. */
  readonly backoffMs?: number | undefined;
  /** Default `narswarm`. */
  readonly userAgent?: string;
  /** File with passwords by host, in netrc's format. Default: none. */
  readonly netrcFile?: string | undefined;
  /**
   * File with the certificates (PEM) of the authorities that vouch for servers, instead of all others. Default: those
   * that Node brings.
   */
  readonly caFile?: string | undefined;
  readonly onWarning?: (message: string) => void;
}

/** With every default filled in; a file that is undefined there is none. */
export type ResolvedOptions = {
  readonly [Key in keyof HttpClientOptions]-?: Key extends 'netrcFile' | 'caFile'
    ? string | undefined
    : NonNullable<HttpClientOptions[Key]>;
};

const DEFAULTS: ResolvedOptions = {
  connectionsPerOrigin: 25,
  connectTimeoutMs: 15_000,
  stallTimeoutMs: 300_000,
  hastyConnectTimeoutMs: 5_000,
  hastyStallTimeoutMs: 10_000,
  retries: 4,
  backoffMs: 250,
  userAgent: 'narswarm',
  netrcFile: undefined,
  caFile: undefined,
  onWarning: () => undefined,
};

/** `options` with every default filled in. */
export function resolveOptions(options: HttpClientOptions): ResolvedOptions {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const resolved: ResolvedOptions = { ...DEFAULTS, ...given };
  return {
    ...resolved,
    hastyConnectTimeoutMs: Math.min(resolved.hastyConnectTimeoutMs, resolved.connectTimeoutMs),
    hastyStallTimeoutMs: Math.min(resolved.hastyStallTimeoutMs, resolved.stallTimeoutMs),
  };
}

/** Options of every call. */
export interface CallOptions {
  /** As of the client, for this call. */
  readonly retries?: number | undefined;
  /** True if somebody else can be asked: the server has little time, and is not waited for again once it stalls. */
  readonly givesWay?: boolean | undefined;
  /** The address that named this one: credentials that are of its own are not for another. */
  readonly linkedFrom?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}
