/**
 * Output of `nix store info`, or of `nix store ping` before 2.19: JSON, or lines before 2.15. Whether this user is
 * trusted is there from 2.16 on, as a number or a boolean.
 */
import { NarswarmError } from '../errors.ts';

/** Facts that Nix tells of a store itself. */
export interface StoreDescription {
  /** `daemon`, `local`, …; undefined if Nix does not tell. */
  readonly url: string | undefined;
  /** Whether the store trusts this user; undefined before Nix 2.16, and where it cannot say. */
  readonly isTrusted: boolean | undefined;
}

/** @throws NarswarmError `NIX_FAILED` for broken JSON */
export function parseStoreInfo(text: string): StoreDescription {
  if (!text.trimStart().startsWith('{')) {
    const [, url] = /^Store URL: (.+)$/m.exec(text) ?? [];
    const [, trusted] = /^Trusted: ([01])$/m.exec(text) ?? [];
    return { url, isTrusted: trusted === undefined ? undefined : trusted === '1' };
  }
  const { url, trusted } = parseObject(text);
  const isKnown = typeof trusted === 'boolean' || typeof trusted === 'number';
  return { url: typeof url === 'string' ? url : undefined, isTrusted: isKnown ? Boolean(trusted) : undefined };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(text));
  } catch (cause) {
    throw new NarswarmError('NIX_FAILED', 'nix store info printed broken JSON', { cause });
  }
}
