/** Sends one GET, from the URL to the answer with the body. */

import type { Answer } from './answer.ts';
import type { Credentials, Destination } from '../credentials.ts';
import { AttemptFailure, WANTS_PASSWORD } from './failure.ts';
import { openFile } from './file-answer.ts';
import { parseContentRange } from './range.ts';
import { isRedirect, resolveRedirect } from './redirect.ts';
import { parseRetryAfterMs } from './retry.ts';
import type { Sender } from '../connection/sender.ts';
import { SocketAnswer } from '../connection/socket-answer.ts';

/** Headers of a request. A function returns those for one address, which may be the target of a redirect. */
export type Headers = Readonly<Record<string, string>> | ((target: URL) => Readonly<Record<string, string>>);

/**
 * Opens a URL. Adds `headers` to each request. The caller must read or discard the body.
 *
 * @throws AttemptFailure if there is no answer, or one with an unusable status: HTTP_NOT_FOUND for 404, 410 and 403,
 *   since S3 answers 403 for an absent object unless the client may list the bucket
 */
export type OpenUrl = (headers: Headers) => Promise<Answer>;

export interface RequestSettings {
  /** Called by a request that needs a socket. */
  readonly sender: () => Promise<Sender>;
  readonly userAgent: string;
  readonly credentials: Credentials;
  /** Time without a byte of the body until it counts as stalled. */
  readonly bodyTimeoutMs: number;
  /** The state of the answer (sender.ts). */
  readonly isShort: boolean;
  readonly isNar: boolean;
  readonly isLast: boolean;
  readonly signal: AbortSignal;
  /** The address that named this URL; credentials in that address are not sent to this one. */
  readonly linkedFrom?: string | undefined;
  /** True for a server that nobody has configured: it gets no credentials, and cannot redirect to another origin. */
  readonly isAnnounced?: boolean | undefined;
}

const USEFUL = new Set([200, 206, 304]);
const ABSENT = new Set([403, 404, 410]);
const UNAUTHORIZED = new Set([401, 403]);
const RETRYABLE = new Set([408, 425, 429]);
/** Server errors that are likely to last. */
const LASTING = new Set([501, 505, 511]);

/** Sends a GET and follows redirects. Reads a `file:` URL from the disk. */
export async function openUrl(url: string, headers: Headers, settings: RequestSettings): Promise<Answer> {
  let target = new URL(url);
  const headersFor = (): Readonly<Record<string, string>> =>
    typeof headers === 'function' ? headers(target) : headers;
  if (target.protocol === 'file:') return openFile(target, headersFor());
  const first = new URL(settings.linkedFrom ?? url);
  for (let redirects = 0; ; redirects += 1) {
    const sent = headersFor();
    // oxlint-disable-next-line no-await-in-loop -- the answer names the next address
    const response = await sendRequest({ target, first }, sent, settings);
    if (sent['range'] === undefined && isWhole(response)) return asWhole(response);
    if (USEFUL.has(response.statusCode)) return response;
    // oxlint-disable-next-line no-await-in-loop -- see above
    if (!isRedirect(response.statusCode)) throw await rejectStatus(response, { target, first }, settings);
    response.discard();
    const mayLeave = settings.isAnnounced !== true;
    target = resolveRedirect(response.statusCode, response.header('location'), target, { redirects, mayLeave });
  }
}

/** Returns true for the whole file with another status than 200, which Nix accepts, too (filetransfer.cc). */
function isWhole(response: Answer): boolean {
  if (response.statusCode === 201) return true;
  if (response.statusCode !== 206) return false;
  const text = response.header('content-range');
  const range = parseContentRange(text);
  return text === undefined || (range?.start === 0 && range.end === range.sizeBytes);
}

function asWhole(response: Answer): Answer {
  return {
    statusCode: 200,
    header: (name) => response.header(name),
    read: (take) => response.read(take),
    discard: () => response.discard(),
    close: () => response.close(),
  };
}

/** Discards an answer whose status does not fit the request. */
export function rejectAnswer(response: Answer): AttemptFailure {
  response.discard();
  const status = response.statusCode;
  const reason = `the server answered ${status}, which does not fit the request`;
  return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'never', status });
}

/** Discards a useless answer and returns the reason. */
async function rejectStatus(
  response: Answer,
  destination: Destination,
  { credentials, isAnnounced = false }: RequestSettings,
): Promise<AttemptFailure> {
  response.discard();
  const status = response.statusCode;
  if (status === 407)
    return new AttemptFailure(`it answered 407: ${WANTS_PASSWORD}`, { code: 'HTTP_FAILED', retry: 'never', status });
  const aside = UNAUTHORIZED.has(status) && !isAnnounced ? `: ${await credentials.explain(destination)}` : '';
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
  {
    sender,
    userAgent,
    credentials,
    bodyTimeoutMs,
    isShort,
    isNar,
    isLast,
    isAnnounced = false,
    signal,
  }: RequestSettings,
): Promise<SocketAnswer> {
  const authorization = isAnnounced ? undefined : await credentials.headerFor(destination);
  return SocketAnswer.get(await sender(), destination.target, {
    headers: {
      'user-agent': userAgent,
      'accept-encoding': 'identity',
      ...(authorization === undefined ? {} : { authorization }),
      ...headers,
    },
    bodyTimeoutMs,
    isShort,
    isNar,
    isLast,
    signal,
  });
}
