/** Resolves redirects, and refuses some of them: pure. Follows one from https to http, as Nix and curl do by default. */

import { AttemptFailure } from './failure.ts';
import { redactUrl } from '../../redact.ts';

/** Limit on redirects, as in Nix. */
export const MAX_REDIRECTS = 10;

const STATUSES = new Set([301, 302, 303, 307, 308]);

export function isRedirect(status: number): boolean {
  return STATUSES.has(status);
}

/**
 * Resolves the `Location` that `from` sent with `status`. Throws {@link AttemptFailure} if there is no address, if it
 * is not http or https, or after `MAX_REDIRECTS` earlier redirects.
 *
 * @param options.mayLeave false for a server that nobody has configured: it must not lead to another origin. Default:
 *   true
 */
export function resolveRedirect(
  status: number,
  location: string | undefined,
  from: URL,
  { redirects, mayLeave = true }: { readonly redirects: number; readonly mayLeave?: boolean },
): URL {
  if (redirects >= MAX_REDIRECTS) throw refuseRedirect(status, `more than ${MAX_REDIRECTS} redirects`);
  const target = location === undefined ? null : URL.parse(asSent(location), from.href);
  if (target === null) throw refuseRedirect(status, 'a redirect without a usable Location');
  if (!/^https?:$/.test(target.protocol))
    throw refuseRedirect(status, `a redirect to ${redactUrl(target)}, which is not an http or https address`);
  if (!mayLeave && target.origin !== from.origin)
    throw refuseRedirect(status, `a redirect to ${redactUrl(target)} by a cache that nobody has configured`);
  return target;
}

/** Escapes the bytes beyond ASCII, one by one, and backslashes, which a URL would turn into slashes. As in curl. */
function asSent(location: string): string {
  return location.replace(/[\\\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function refuseRedirect(status: number, reason: string): AttemptFailure {
  return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'never', status });
}
