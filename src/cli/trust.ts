import { NarswarmError, isNarswarmError } from '../errors.ts';
import { readNixConfig } from '../nix/nix-cli.ts';
import { parsePublicKey, type PublicKey } from '../nix/signature.ts';
import { parseUpstream, type Upstream } from '../http/upstream.ts';

/** The keys and caches that a command works with. */
export interface Trust {
  readonly keys: readonly PublicKey[];
  readonly upstreams: readonly Upstream[];
}

/**
 * Takes keys and caches from the flags, and what the flags leave out from nix.conf.
 *
 * @param flags.from undefined: those of nix.conf; empty: none
 * @throws NIX_MISSING where nix.conf is needed and there is no nix
 */
export async function readTrust(
  flags: { trustedPublicKey?: readonly string[] | undefined; from?: readonly string[] | undefined },
  signal: AbortSignal,
  warn: (text: string) => void,
): Promise<Trust> {
  const { trustedPublicKey, from } = flags;
  const needed = trustedPublicKey === undefined || from === undefined;
  const config = needed ? await readNixConfig({ signal }) : undefined;
  const keys = trustedPublicKey?.map(namedKey) ?? (config?.trustedPublicKeys ?? []).map(parsePublicKey);
  if (from !== undefined) return { keys, upstreams: from.map(parseUpstream) };
  return { keys, upstreams: (config?.substituters ?? []).flatMap((url) => usable(url, warn)) };
}

/** @throws KEY_INVALID, which does not show what was given: it may be a secret key in the wrong place */
function namedKey(text: string): PublicKey {
  try {
    return parsePublicKey(text);
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    throw new NarswarmError(error.code, `--trusted-public-key: ${error.message}`, { cause: error });
  }
}

/** A substituter of nix.conf that is not an HTTP cache (s3://, ssh://, a folder) is Nix's to use, not ours. */
function usable(url: string, warn: (text: string) => void): Upstream[] {
  try {
    return [parseUpstream(url)];
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    warn(`the substituter ${url} of nix.conf is passed over: only http and https caches are asked`);
    return [];
  }
}
