/** One GET, from the URL to the answer that is not a redirect. */

import { type Dispatcher, request } from 'undici';
import { AttemptFailure, explainNetworkError } from './failure.ts';
import { isRedirect, resolveRedirect } from './redirect.ts';
import { parseRetryAfterMs } from './retry.ts';

export type Response = Dispatcher.ResponseData;

/** Headers of a request; as a function: those of the request to this address, which a redirect may have led to. */
export type Headers = Readonly<Record<string, string>> | ((target: URL) => Readonly<Record<string, string>>);

/** Opens `url`; `headers` are added to those of every request. The caller has to read or discard the body. */
export type OpenUrl = (headers: Headers) => Promise<Response>;

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
export async function openUrl(url: string, headers: Headers, settings: RequestSettings): Promise<Response> {
  let target = new URL(url);
  for (let redirects = 0; ; redirects += 1) {
    // oxlint-disable-next-line no-await-in-loop -- where to go next is known only from the answer
    const response = await sendRequest(target, typeof headers === 'function' ? headers(target) : headers, settings);
    if (!isRedirect(response.statusCode)) return refuseEncoding(response);
    discardBody(response);
    target = resolveRedirect(response.statusCode, readHeader(response, 'location'), target, redirects);
  }
}

/** The body, chunk by chunk; leaving the loop early closes the connection. Throws {@link AttemptFailure}. */
export async function* readBody(response: Response): AsyncGenerator<Buffer, void, undefined> {
  try {
    const body: AsyncIterable<Buffer> = response.body;
    yield* body;
  } catch (error) {
    throw explainNetworkError(error, 'body');
  }
}

/** True where the status says that the server does not have the file: 403, 404, 410. */
export function isAbsent(response: Response): boolean {
  return ABSENT.has(response.statusCode);
}

/** Drops an answer that is of no use, and says why. */
export function rejectStatus(response: Response): AttemptFailure {
  discardBody(response);
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
    retryAfterMs: parseRetryAfterMs(readHeader(response, 'retry-after'), Date.now()),
  });
}

/** Lets the connection serve the next request; a body that is long or never ends costs the connection instead. */
export function discardBody(response: Response): void {
  void response.body.dump().catch(() => undefined);
}

/** The value of a header; the first, where it was sent more than once. `name` in lower case. */
export function readHeader(response: Response, name: string): string | undefined {
  const value = response.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

async function sendRequest(
  target: URL,
  headers: Readonly<Record<string, string>>,
  { dispatcher, userAgent, signal }: RequestSettings,
): Promise<Response> {
  try {
    return await request(target, {
      dispatcher,
      signal,
      headers: { 'user-agent': userAgent, 'accept-encoding': 'identity', ...authorize(target), ...headers },
    });
  } catch (error) {
    throw explainNetworkError(error, 'headers');
  }
}

/** Credentials of the URL as RFC 7617 has them. A redirect elsewhere has a URL of its own, so none leak to it. */
function authorize(target: URL): { authorization?: string } {
  if (target.username === '' && target.password === '') return {};
  const pair = `${decodeURIComponent(target.username)}:${decodeURIComponent(target.password)}`;
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}

function refuseEncoding(response: Response): Response {
  const encoding = readHeader(response, 'content-encoding');
  // What stands on an error page is never read.
  if (encoding === undefined || encoding === 'identity' || response.statusCode >= 300) return response;
  discardBody(response);
  throw new AttemptFailure(`the server sent Content-Encoding ${encoding}, though identity was asked for`, {
    code: 'HTTP_FAILED',
    retry: 'never',
    status: response.statusCode,
  });
}
