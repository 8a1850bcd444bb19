/** Runs attempts, with waits between them. */

import { setTimeout as sleep } from 'node:timers/promises';
import { AttemptFailure, reportFailure, type RetryRule } from './failure.ts';

/** Longest wait between attempts, unless the server asks for more. */
const BACKOFF_CAP_MS = 10_000;
/** Limit on the wait that a server may ask for by Retry-After. */
const RETRY_AFTER_CAP_MS = 30_000;
/** Limit on all attempts. A server that cuts the connection every few bytes makes progress each time. */
const MAX_ATTEMPTS = 51;

export interface RetryPolicy {
  /** Extra attempts without progress between them. */
  readonly retries: number;
  readonly backoffMs: number;
  readonly signal: AbortSignal;
  /** Aborted when the client is closed, which also fails the attempt. */
  readonly closing: AbortSignal;
  /** True if another source can be asked. Then a stalled server gets no retry, however much it sent before. */
  readonly givesWay?: boolean | undefined;
  /** Returns a number that increases with progress. Progress during an attempt resets the count of failures. */
  readonly measureProgress?: () => number;
}

/** The situation of one attempt. */
export interface Turn {
  /** Failed attempts since the last progress. */
  readonly failures: number;
  /** True if an attempt has failed and the next failure is final. */
  readonly isLast: boolean;
}

/**
 * Runs `attempt` until it succeeds, throws another error than {@link AttemptFailure}, or has no retry left. Throws the
 * reason of an aborted signal; throws NarswarmError with facts `{url, attempts, status}` after the last attempt.
 */
export async function runAttempts<T>(
  url: string,
  attempt: (turn: Turn) => Promise<T>,
  policy: RetryPolicy,
): Promise<T> {
  const { signal, closing, measureProgress = () => 0 } = policy;
  const throwIfEnded = (): void => {
    signal.throwIfAborted();
    closing.throwIfAborted();
  };
  let failures = 0;
  for (let attempts = 1; ; attempts += 1) {
    throwIfEnded();
    const before = measureProgress();
    try {
      // oxlint-disable-next-line no-await-in-loop -- attempts run one after the other
      return await attempt({ failures, isLast: failures > 0 && failures >= policy.retries });
    } catch (error) {
      throwIfEnded();
      if (!(error instanceof AttemptFailure)) throw error;
      const { code, retryAfterMs = 0, isTrickle = false } = error.details;
      failures = measureProgress() > before && !isTrickle ? 0 : failures + 1;
      const retry = policy.givesWay === true && code === 'HTTP_STALLED' ? 'never' : error.details.retry;
      const mayRetry = retry !== 'never' && failures <= countRetries(retry, policy.retries) && attempts < MAX_ATTEMPTS;
      if (!mayRetry) throw reportFailure(error, url, attempts);
      // oxlint-disable-next-line no-await-in-loop -- see above
      await wait(
        Math.max(computeBackoffMs(failures, policy.backoffMs), retryAfterMs),
        AbortSignal.any([signal, closing]),
      );
    }
  }
}

/** Returns a wait with full jitter: from 0 to `backoffMs`, doubled with each failure after the first, at most 10 s. */
export function computeBackoffMs(failures: number, backoffMs: number, random: () => number = Math.random): number {
  return random() * Math.min(BACKOFF_CAP_MS, backoffMs * 2 ** Math.max(0, failures - 1));
}

/** Converts Retry-After (RFC 9110, 10.2.3: seconds or an HTTP-date) to milliseconds from `nowMs`, at most 30 s. */
export function parseRetryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const waitMs = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - nowMs;
  return Number.isNaN(waitMs) ? undefined : Math.min(RETRY_AFTER_CAP_MS, Math.max(0, waitMs));
}

function countRetries(rule: RetryRule, retries: number): number {
  return rule === 'once' ? Math.min(1, retries) : retries;
}

async function wait(durationMs: number, signal: AbortSignal): Promise<void> {
  // An aborted sleep throws an AbortError of its own, but callers expect the signal's reason.
  await sleep(durationMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}
