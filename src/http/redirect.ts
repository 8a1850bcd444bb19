/** Where a redirect leads, and which ones are not followed: pure. */

import { AttemptFailure } from './failure.ts';
import { redactUrl } from '../redact.ts';

/** As many as Nix follows. */
export const MAX_REDIRECTS = 10;

const STATUSES = new Set([301, 302, 303, 307, 308]);

export function isRedirect(status: number): boolean {
  return STATUSES.has(status);
}

/**
 * The address that `location`, sent with `status` by `from`, stands for. Throws {@link AttemptFailure} where there is
 * none, where it leaves http and https, where it goes from https to http, or after `MAX_REDIRECTS` earlier ones.
 */
export function resolveRedirect(status: number, location: string | undefined, from: URL, earlier: number): URL {
  if (earlier >= MAX_REDIRECTS) throw refuseRedirect(status, `more than ${MAX_REDIRECTS} redirects`);
  const target = location === undefined ? null : URL.parse(location, from.href);
  if (target === null) throw refuseRedirect(status, 'a redirect without a usable Location');
  const isDowngrade = from.protocol === 'https:' && target.protocol !== 'https:';
  if (isDowngrade || !/^https?:$/.test(target.protocol)) {
    throw refuseRedirect(status, `a redirect from ${from.protocol} to ${redactUrl(target)}, which is refused`);
  }
  return target;
}

function refuseRedirect(status: number, reason: string): AttemptFailure {
  return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'never', status });
}
