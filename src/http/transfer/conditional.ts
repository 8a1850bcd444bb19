/** Fetches a small body only if it has changed (RFC 9110, 13). */

import { createHash } from 'node:crypto';
import { collectBody } from './collect.ts';
import type { Answer } from './answer.ts';
import { decodeAnswer } from './decoded-answer.ts';
import { isNotFound } from './failure.ts';
import { type OpenUrl, rejectAnswer } from './request.ts';

/** The validators of a body. A server later uses them to decide whether the body has changed. */
export interface Validators {
  /**
   * SHA-256 (hex) of the address that answered, after all redirects. Validators are valid for one address only. It is
   * hashed because the address may hold secrets and validators are stored in files.
   */
  readonly address: string;
  readonly etag?: string;
  readonly lastModified?: string;
}

/** The result of a conditional request; `absent` for 403, 404 and 410. */
export type Conditional =
  | { readonly kind: 'changed'; readonly bytes: Uint8Array; readonly validators: Validators }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'absent' };

/**
 * Makes one attempt, to be repeated. Sends the conditions only to the address that they came from. A channel redirects
 * to another file with each release, and that file may be older than the previous one.
 */
export function getConditionally(
  open: OpenUrl,
  { maxBytes, validators }: { readonly maxBytes: number; readonly validators?: Validators | undefined },
): () => Promise<Conditional> {
  return async () => {
    let address = '';
    let conditions: Readonly<Record<string, string>> = {};
    const response = await open((target) => {
      address = createHash('sha256').update(target.href).digest('hex');
      conditions = validators?.address === address ? conditionsOf(validators) : {};
      return conditions;
    }).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (response === undefined) return { kind: 'absent' };
    if (response.statusCode === 200) {
      const bytes = await collectBody(decodeAnswer(response), maxBytes);
      return { kind: 'changed', bytes, validators: validatorsOf(response, address) };
    }
    if (response.statusCode !== 304 || Object.keys(conditions).length === 0) throw rejectAnswer(response);
    response.discard();
    return { kind: 'unchanged' };
  };
}

function conditionsOf({ etag, lastModified }: Validators): Record<string, string> {
  return {
    ...(etag === undefined ? {} : { 'if-none-match': etag }),
    ...(lastModified === undefined ? {} : { 'if-modified-since': lastModified }),
  };
}

function validatorsOf(response: Answer, address: string): Validators {
  const etag = response.header('etag');
  const lastModified = response.header('last-modified');
  return { address, ...(etag === undefined ? {} : { etag }), ...(lastModified === undefined ? {} : { lastModified }) };
}
