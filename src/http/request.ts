/** One GET, from the URL to the answer that has what was asked for. */

import type { Dispatcher } from 'undici';
import type { Answer } from './answer.ts';
import type { Credentials, Destination } from './credentials.ts';
import { AttemptFailure } from './failure.ts';
import { openFile } from './file-answer.ts';
import { isRedirect, resolveRedirect } from './redirect.ts';
import { parseRetryAfterMs } from './retry.ts';
import { SocketAnswer } from './socket-answer.ts';

/** Headers of a request; as a function: those of the request to this address, which a redirect may have led to. */
export type Headers = Readonly<Record<string, string>> | ((target: URL) => Readonly<Record<string, string>>);

/**
 * Opens a URL; `headers` are added to those of every request. The caller has to read or discard the body.
 *
 * @throws AttemptFailure where no answer came, or one with a status that has no use: HTTP_NOT_FOUND for 404, 410, and 403,
 *   which S3 answers for an object that is absent unless the asker may list the bucket
 */
export type OpenUrl = (headers: Headers) => Promise<Answer>;

export interface RequestSettings {
  /** Called with the first request that needs a socket. */
  readonly dispatcher: () => Promise<Dispatcher>;
  readonly userAgent: string;
  readonly credentials: Credentials;
  /** No byte of the body for so long: it has stalled. */
  readonly bodyTimeoutMs: number;
  readonly signal: AbortSignal;
  /** The address that named this one, whose credentials are not for it. */
  readonly linkedFrom?: string | undefined;
}

const USEFUL = new Set([200, 206, 304]);
const ABSENT = new Set([403, 404, 410]);
const UNAUTHORIZED = new Set([401, 403, 407]);
const RETRYABLE = new Set([408, 425, 429]);
/** Server errors that the next attempt would meet again. */
const LASTING = new Set([501, 505, 511]);

/** Sends a GET and follows redirects, never from https to http. A `file:` URL is read where it lies. */
export async function openUrl(url: string, headers: Headers, settings: RequestSettings): Promise<Answer> {
  let target = new URL(url);
  const headersFor = (): Readonly<Record<string, string>> =>
    typeof headers === 'function' ? headers(target) : headers;
  if (target.protocol === 'file:') return openFile(target, headersFor());
  const first = new URL(settings.linkedFrom ?? url);
  for (let redirects = 0; ; redirects += 1) {
    // oxlint-disable-next-line no-await-in-loop -- where to go next is known only from the answer
    const response = await sendRequest({ target, first }, headersFor(), settings);
    if (USEFUL.has(response.statusCode)) return response;
    // oxlint-disable-next-line no-await-in-loop -- see above
    if (!isRedirect(response.statusCode)) throw await rejectStatus(response, { target, first }, settings);
    response.discard();
    target = resolveRedirect(response.statusCode, response.header('location'), target, redirects);
  }
}

/** Drops an answer with a status that does not fit what was asked for. */
export function rejectAnswer(response: Answer): AttemptFailure {
  response.discard();
  const status = response.statusCode;
  const reason = `the server answered ${status}, which fits no such request`;
  return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'never', status });
}

/** Drops an answer that is of no use, and says why. */
async function rejectStatus(
  response: Answer,
  destination: Destination,
  { credentials }: RequestSettings,
): Promise<AttemptFailure> {
  response.discard();
  const status = response.statusCode;
  const aside = UNAUTHORIZED.has(status) ? `: ${await credentials.explain(destination)}` : '';
  if (ABSENT.has(status)) {
    const reason = status === 403 ? `the server answered 403${aside}` : `the server does not have it (${status})`;
    return new AttemptFailure(reason, { code: 'HTTP_NOT_FOUND', retry: 'never', status });
  }
  const mayPass = (status >= 500 && !LASTING.has(status)) || RETRYABLE.has(status);
  return new AttemptFailure(`the server answered ${status}${aside}`, {
    code: 'HTTP_FAILED',
    retry: mayPass ? 'again' : 'never',
    status,
    retryAfterMs: parseRetryAfterMs(response.header('retry-after'), Date.now()),
  });
}

async function sendRequest(
  destination: Destination,
  headers: Readonly<Record<string, string>>,
  { dispatcher, userAgent, credentials, bodyTimeoutMs, signal }: RequestSettings,
): Promise<SocketAnswer> {
  const authorization = await credentials.headerFor(destination);
  return SocketAnswer.get(await dispatcher(), destination.target, {
    headers: {
      'user-agent': userAgent,
      'accept-encoding': 'identity',
      ...(authorization === undefined ? {} : { authorization }),
      ...headers,
    },
    bodyTimeoutMs,
    signal,
  });
}
