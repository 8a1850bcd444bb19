/** The reason of a failed attempt, and whether to try again. Never leaves this folder: callers see NarswarmError. */

import { explainTls } from '../route/tls-failure.ts';
import { type ErrorCode, NarswarmError } from '../../errors.ts';
import { redactUrl } from '../../redact.ts';

/**
 * `again`: retry as often as the options allow; `once`: retry once; `never`: the next attempt would end the same way.
 */
export type RetryRule = 'again' | 'once' | 'never';

export interface FailureDetails {
  readonly code: ErrorCode;
  readonly retry: RetryRule;
  /** HTTP status, if there was an answer. */
  readonly status?: number;
  /** The wait that the server asked for with Retry-After. */
  readonly retryAfterMs?: number | undefined;
  /** True if the bytes that came are too few to count as progress. */
  readonly isTrickle?: boolean;
  readonly cause?: unknown;
}

/** The failure of one attempt. `message` is the reason alone, without the URL. */
export class AttemptFailure extends Error {
  readonly details: FailureDetails;

  constructor(reason: string, details: FailureDetails) {
    super(reason, 'cause' in details ? { cause: details.cause } : undefined);
    this.details = details;
  }
}

/** Advice to the user for each error of the system. */
const WAYS_OUT: ReadonlyMap<string, string> = new Map([
  ['ECONNREFUSED', 'check the address, and that its server is running'],
  ['ENOTFOUND', 'check the name, and the name servers of this machine'],
  ['EAI_AGAIN', 'check the name servers of this machine, and its network'],
  ['EHOSTUNREACH', 'check the address, and the network of this machine'],
  ['ENETUNREACH', 'check the network of this machine'],
]);

/**
 * Turns an error of a socket, the resolver or the HTTP parser into an {@link AttemptFailure}. Every such error counts
 * as the server's: no library lists all errors that strangers can cause.
 */
export function explainNetworkError(cause: unknown, phase: 'headers' | 'body'): AttemptFailure {
  if (cause instanceof AttemptFailure) return cause;
  const code = readCode(cause);
  const said = cause instanceof Error && cause.message !== '' ? cause.message : code;
  if (code === '') return notHttp(said, cause);
  const tls = cause instanceof Error ? explainTls(cause) : undefined;
  if (tls?.mayPass === false) return new AttemptFailure(tls.reason, { code: 'HTTP_FAILED', retry: 'never', cause });
  if (phase === 'body') {
    const reason = `the connection broke inside the body (${said})`;
    return new AttemptFailure(reason, { code: 'HTTP_TRUNCATED', retry: 'again', cause });
  }
  const wayOut = WAYS_OUT.get(code);
  const reason = tls?.reason ?? (wayOut === undefined ? said : `${said}: ${wayOut}`);
  return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'again', cause });
}

/** Makes the failure of a server that sends something else than HTTP. */
export function notHttp(reason: string, cause?: unknown): AttemptFailure {
  return new AttemptFailure(`the answer is not HTTP (${reason})`, {
    code: 'HTTP_FAILED',
    retry: 'once',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Makes the failure of a server that sends nothing. */
export function stalled(phase: 'headers' | 'body'): AttemptFailure {
  return new AttemptFailure(`the server stalled, sending no ${phase}`, { code: 'HTTP_STALLED', retry: 'again' });
}

/** Makes the error of a connection that the other side has closed. */
export function hungUp(): Error {
  return Object.assign(new Error('the server closed the connection'), { code: 'ECONNRESET' });
}

/** Makes the failure of a server that sends a byte now and then. */
export function trickled(overMs: number): AttemptFailure {
  const reason = `the server stalled, sending less than 1 byte/s for ${overMs / 1000} s`;
  return new AttemptFailure(reason, { code: 'HTTP_STALLED', retry: 'again', isTrickle: true });
}

/**
 * Makes the failure of a server that does not accept a connection.
 *
 * @param isResolved false if not even the address of its name is known
 */
export function cannotConnect(afterMs: number, isResolved: boolean): AttemptFailure {
  const time = `within ${afterMs / 1000} s`;
  const reason = isResolved
    ? `no connection ${time}: check the network, the address, and firewalls`
    : `no name server tells its address ${time}: check the network and /etc/resolv.conf`;
  return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: 'again' });
}

/** Explains a 407 of a proxy. */
export const WANTS_PASSWORD =
  'the proxy wants another user or password: correct its address in http_proxy, https_proxy or all_proxy';

/** Makes the failure of a proxy that does not lead a connection on. @param isFinal if it would refuse again */
export function refusedByProxy(reason: string, isFinal: boolean): AttemptFailure {
  return new AttemptFailure(reason, { code: 'HTTP_FAILED', retry: isFinal ? 'never' : 'again' });
}

/** Makes the failure of a way through a proxy. It names the proxy without its password. */
export function throughProxy(proxy: URL, cause: unknown): AttemptFailure {
  const { message, details } = explainNetworkError(cause, 'headers');
  return new AttemptFailure(`no way through the proxy ${proxy.protocol}//${proxy.host}: ${message}`, details);
}

/** Returns true if an attempt failed because the server does not have the file. */
export function isNotFound(error: unknown): boolean {
  return error instanceof AttemptFailure && error.details.code === 'HTTP_NOT_FOUND';
}

/** Makes the error for the caller. It names the URL without its secrets, the number of attempts and the last reason. */
export function reportFailure(failure: AttemptFailure, url: string, attempts: number): NarswarmError {
  const { code, status } = failure.details;
  const shown = redactUrl(url);
  const times = attempts === 1 ? '1 attempt' : `${attempts} attempts`;
  return new NarswarmError(code, `${shown} failed after ${times}: ${failure.message}`, {
    cause: failure,
    facts: { url: shown, attempts, status, why: failure.message },
  });
}

function readCode(error: unknown): string {
  if (!(error instanceof Error) || !('code' in error)) return '';
  return typeof error.code === 'string' ? error.code : '';
}
