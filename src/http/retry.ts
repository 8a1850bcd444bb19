/** Attempts, and the waits between them. */

import { setTimeout as sleep } from 'node:timers/promises';
import { AttemptFailure, reportFailure, type RetryRule } from './failure.ts';

/** No wait between attempts is longer, unless the server asked for it. */
const BACKOFF_CAP_MS = 10_000;
/** The longest wait that a server gets by Retry-After. */
const RETRY_AFTER_CAP_MS = 30_000;
/** A server that cuts every few bytes makes progress each time; this ends it. */
const MAX_ATTEMPTS = 51;

export interface RetryPolicy {
  /** Extra attempts without progress between them. */
  readonly retries: number;
  readonly backoffMs: number;
  readonly signal: AbortSignal;
  /** True where somebody else can be asked: a server that falls silent is not waited for again, whatever it sent before. */
  readonly givesWay?: boolean | undefined;
  /** A number that grows as work is done; growth during an attempt starts the count of failures anew. */
  readonly measureProgress?: () => number;
}

/** State that an attempt may depend on. */
export interface Turn {
  /** Attempts before it since something was gained. */
  readonly failures: number;
  /** True if something has failed and the next failure ends it all. */
  readonly isLast: boolean;
}

/**
 * Runs `attempt` until it succeeds, throws something that is no {@link AttemptFailure}, or may not be tried again.
 * Throws the signal's reason once it is aborted; NarswarmError with facts `{url, attempts, status}` on giving up.
 */
export async function runAttempts<T>(
  url: string,
  attempt: (turn: Turn) => Promise<T>,
  policy: RetryPolicy,
): Promise<T> {
  const { signal, measureProgress = () => 0 } = policy;
  let failures = 0;
  for (let attempts = 1; ; attempts += 1) {
    signal.throwIfAborted();
    const before = measureProgress();
    try {
      // oxlint-disable-next-line no-await-in-loop -- one attempt after the other is the point
      return await attempt({ failures, isLast: failures > 0 && failures >= policy.retries });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AttemptFailure)) throw error;
      failures = measureProgress() > before ? 0 : failures + 1;
      const { code, retryAfterMs = 0 } = error.details;
      const retry = policy.givesWay === true && code === 'HTTP_STALLED' ? 'never' : error.details.retry;
      const mayRetry = retry !== 'never' && failures <= countRetries(retry, policy.retries) && attempts < MAX_ATTEMPTS;
      if (!mayRetry) throw reportFailure(error, url, attempts);
      // oxlint-disable-next-line no-await-in-loop -- see above
      await wait(Math.max(computeBackoffMs(failures, policy.backoffMs), retryAfterMs), signal);
    }
  }
}

/** Full jitter: anything from 0 to `backoffMs`, doubled with each failure after the first, at most 10 s. */
export function computeBackoffMs(failures: number, backoffMs: number, random: () => number = Math.random): number {
  return random() * Math.min(BACKOFF_CAP_MS, backoffMs * 2 ** Math.max(0, failures - 1));
}

/** Retry-After (RFC 9110, 10.2.3: seconds or an HTTP-date) as milliseconds from `nowMs`, at most 30 s. */
export function parseRetryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const waitMs = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - nowMs;
  return Number.isNaN(waitMs) ? undefined : Math.min(RETRY_AFTER_CAP_MS, Math.max(0, waitMs));
}

function countRetries(rule: RetryRule, retries: number): number {
  return rule === 'once' ? Math.min(1, retries) : retries;
}

async function wait(durationMs: number, signal: AbortSignal): Promise<void> {
  // A sleep that is cut short throws an AbortError of its own; callers are promised the signal's reason.
  await sleep(durationMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}
