/** Chooses which of the trusted keys are shared: NARs signed by them are given to others. */
import { NarswarmError } from '../errors.ts';
import { formatPublicKey, parsePublicKey, type PublicKey } from '../nix/signature.ts';

/** The public caches whose NARs are shared by default. */
export const DEFAULT_SHARE_KEYS: readonly string[] = ['cache.nixos.org-1'];

/** A choice among the trusted keys. */
export interface ShareKeys {
  readonly keys: readonly PublicKey[];
  /** Chosen keys that are not trusted. */
  readonly unknown: readonly string[];
}

/**
 * Chooses the keys whose NARs are shared. A key that is only trusted, such as the key of a company's cache, is not
 * included until it is named.
 *
 * @param chosen names of keys, or whole keys `name:base64`; a name means all trusted keys of that name
 */
export function chooseShareKeys(trusted: readonly PublicKey[], chosen: readonly string[]): ShareKeys {
  const isNamed = (key: PublicKey, text: string): boolean =>
    text.includes(':') ? formatPublicKey(key) === text : key.name === text;
  return {
    keys: trusted.filter((key) => chosen.some((text) => isNamed(key, text))),
    unknown: chosen.filter((text) => !trusted.some((key) => isNamed(key, text))),
  };
}

/** Reads the name of a key, or a whole key. @throws USAGE, KEY_INVALID */
export function parseShareKey(text: string): string {
  if (text.includes(':')) return formatPublicKey(parsePublicKey(text));
  if (text === '' || /\s/.test(text))
    throw new NarswarmError('USAGE', 'Expected the name of a trusted key, or a whole key NAME:BASE64.');
  return text;
}
