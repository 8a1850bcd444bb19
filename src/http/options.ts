/** Options of the HTTP client, and their defaults. */
import type { Warn } from '../warning.ts';

export interface HttpClientOptions {
  /**
   * Limit on sockets to one origin; more requests wait in a queue, and this wait never counts as a stall. Default 25,
   * as in Nix (`http-connections`): narinfos are latency-bound, so the number of sockets sets their rate.
   */
  readonly connectionsPerOrigin?: number | undefined;
  /** Limit for TCP, TLS and a proxy to connect. Default 15,000. */
  readonly connectTimeoutMs?: number | undefined;
  /**
   * Time of failing to connect after which an origin that has never accepted a connection gets no further attempt, and
   * for ten seconds none at all. Default 7,500: a refused connection gets all attempts before, a silent name server one.
   */
  readonly giveUpMs?: number | undefined;
  /**
   * Time without a byte, before the headers or inside the body, until an attempt counts as stalled. Default 300,000, as
   * in Nix.
   */
  readonly stallTimeoutMs?: number | undefined;
  /** The connect timeout while another source can be asked. Default 5,000; at most connectTimeoutMs. */
  readonly hastyConnectTimeoutMs?: number | undefined;
  /**
   * The stall timeout while another source can be asked. Default 10,000; at most stallTimeoutMs. Also applies inside a
   * body without another source, doubled after each failure: a body that has begun can continue over another
   * connection.
   */
  readonly hastyStallTimeoutMs?: number | undefined;
  /** Extra attempts after the first; new bytes reset the count. Default 4. */
  readonly retries?: number | undefined;
  /** Upper bound of the first wait; it doubles with each failure, with full jitter, up to 10 s. Default 250. */
  readonly backoffMs?: number | undefined;
  /**
   * True to close the connection after each NAR that is not short. The system has large buffers for a connection that
   * was fast, and the next NAR would come at once until they are full. Default: false.
   */
  readonly lonelyNars?: boolean | undefined;
  /** Default `narswarm`. */
  readonly userAgent?: string;
  /** File with passwords by host, in the netrc format. Default: none. */
  readonly netrcFile?: string | undefined;
  /** File with certificates of authorities (PEM) that replaces all others. Default: the certificates of Node. */
  readonly caFile?: string | undefined;
  readonly onWarning?: Warn;
}

/** Options with all defaults applied. An undefined file means none. */
export type ResolvedOptions = {
  readonly [Key in keyof HttpClientOptions]-?: Key extends 'netrcFile' | 'caFile'
    ? string | undefined
    : NonNullable<HttpClientOptions[Key]>;
};

const DEFAULTS: ResolvedOptions = {
  connectionsPerOrigin: 25,
  connectTimeoutMs: 15_000,
  giveUpMs: 7_500,
  stallTimeoutMs: 300_000,
  hastyConnectTimeoutMs: 5_000,
  hastyStallTimeoutMs: 10_000,
  retries: 4,
  backoffMs: 250,
  lonelyNars: false,
  userAgent: 'narswarm',
  netrcFile: undefined,
  caFile: undefined,
  onWarning: () => undefined,
};

/** Applies the defaults to `options`. */
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
  /** Replaces the client's option for this call. */
  readonly retries?: number | undefined;
  /** True if another source can be asked: the server gets little time, and no retry after a stall. */
  readonly givesWay?: boolean | undefined;
  /** The address that named this URL. Credentials in that address are not sent to another. */
  readonly linkedFrom?: string | undefined;
  /** True for a server that nobody has configured: it gets no credentials, and cannot redirect to another origin. */
  readonly isAnnounced?: boolean | undefined;
  /** True if the answer is usually short: another one may then wait behind it on a connection. Default: false. */
  readonly isShort?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}
