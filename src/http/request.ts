/** One GET, from the URL to the answer that is not a redirect. */

import type { Dispatcher } from 'undici';
import { Answer } from './answer.ts';
import { AttemptFailure } from './failure.ts';
import { isRedirect, resolveRedirect } from './redirect.ts';
import { parseRetryAfterMs } from './retry.ts';

/** Headers of a request; as a function: those of the request to this address, which a redirect may have led to. */
export type Headers = Readonly<Record<string, string>> | ((target: URL) => Readonly<Record<string, string>>);

/** Opens `url`; `headers` are added to those of every request. The caller has to read or discard the body. */
export type OpenUrl = (headers: Headers) => Promise<Answer>;

export interface RequestSettings {
  readonly dispatcher: Dispatcher;
  readonly userAgent: string;
  readonly signal: AbortSignal;
}

/** S3 answers 403 for an object that is absent, unless the asker may list the bucket. */
const ABSENT = new Set([403, 404, 410]);
const RETRYABLE = new Set([408, 425, 429]);

/**
 * Sends a GET and follows at most five redirects, never from https to http.
 * Throws {@link AttemptFailure} where no answer came, or one with a Content-Encoding.
 */
export async function openUrl(url: string, headers: Headers, settings: RequestSettings): Promise<Answer> {
  let target = new URL(url);
  for (let redirects = 0; ; redirects += 1) {
    // oxlint-disable-next-line no-await-in-loop -- where to go next is known only from the answer
    const response = await sendRequest(target, typeof headers === 'function' ? headers(target) : headers, settings);
    if (!isRedirect(response.statusCode)) return refuseEncoding(response);
    response.discard();
    target = resolveRedirect(response.statusCode, response.header('location'), target, redirects);
  }
}

/** True where the status says that the server does not have the file: 403, 404, 410. */
export function isAbsent(response: Answer): boolean {
  return ABSENT.has(response.statusCode);
}

/** Drops an answer that is of no use, and says why. */
export function rejectStatus(response: Answer): AttemptFailure {
  response.discard();
  const status = response.statusCode;
  if (isAbsent(response)) {
    return new AttemptFailure(`the server does not have it (${status})`, {
      code: 'HTTP_NOT_FOUND',
      retry: 'never',
      status,
    });
  }
  return new AttemptFailure(`the server answered ${status}`, {
    code: 'HTTP_FAILED',
    retry: status >= 500 || RETRYABLE.has(status) ? 'again' : 'never',
    status,
    retryAfterMs: parseRetryAfterMs(response.header('retry-after'), Date.now()),
  });
}

function sendRequest(
  target: URL,
  headers: Readonly<Record<string, string>>,
  { dispatcher, userAgent, signal }: RequestSettings,
): Promise<Answer> {
  return Answer.get(dispatcher, target, {
    headers: { 'user-agent': userAgent, 'accept-encoding': 'identity', ...authorize(target), ...headers },
    signal,
  });
}

/** Credentials of the URL as RFC 7617 has them. A redirect elsewhere has a URL of its own, so none leak to it. */
function authorize(target: URL): { authorization?: string } {
  if (target.username === '' && target.password === '') return {};
  const pair = `${decodeURIComponent(target.username)}:${decodeURIComponent(target.password)}`;
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}

function refuseEncoding(response: Answer): Answer {
  const encoding = response.header('content-encoding');
  // What stands on an error page is never read.
  if (encoding === undefined || encoding === 'identity' || response.statusCode >= 300) return response;
  response.discard();
  throw new AttemptFailure(`the server sent Content-Encoding ${encoding}, though identity was asked for`, {
    code: 'HTTP_FAILED',
    retry: 'never',
    status: response.statusCode,
  });
}
