/**
 * Parses the output of `nix store info`, or of `nix store ping` before Nix 2.19: JSON, or lines before 2.15. From 2.16
 * on it says whether this user is trusted, as a number or a boolean.
 */
import { NarswarmError } from '../../errors.ts';

/** A store, as Nix describes it. */
export interface StoreDescription {
  /** The store's URL (`daemon`, `local`, …). Undefined if Nix does not say. */
  readonly url: string | undefined;
  /** True if the store trusts this user. Undefined before Nix 2.16, and if the store does not say. */
  readonly isTrusted: boolean | undefined;
}

/** @throws NarswarmError `NIX_FAILED` for invalid JSON */
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
    throw new NarswarmError('NIX_FAILED', 'nix store info printed invalid JSON', { cause });
  }
}
