import { join } from 'node:path';
import { cacheFolder } from '../../config/cache-folder.ts';
import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { HttpClientOptions } from '../../http/client.ts';
import { optionsOfNix } from '../../http/nix-options.ts';
import { parseUpstream, uniqueUpstreams, type Upstream } from '../../http/upstream.ts';
import { readKeptNixConfig } from '../../nix/programs/kept-config.ts';
import type { NixConfig } from '../../nix/programs/nix-config.ts';
import { loadSecretKey } from '../../nix/secret-key.ts';
import { formatPublicKey, parsePublicKey, type PublicKey } from '../../nix/signature.ts';
import { warningSentence } from '../words/warnings.ts';

/** The keys, caches and download settings of a command. */
export interface Trust {
  readonly keys: readonly PublicKey[];
  readonly upstreams: readonly Upstream[];
  /** Returns Nix's settings (netrc-file, ssl-cert-file, timeouts). Asks Nix once, and only if it matters. */
  readonly http: () => Promise<HttpClientOptions>;
}

/**
 * Reads keys and caches from the flags, and from nix.conf if the flags leave them out.
 *
 * @param flags.from undefined: the caches of nix.conf; empty: none
 * @throws NIX_MISSING if nix.conf is needed and Nix is not installed
 */
export async function readTrust(
  flags: { trustedPublicKey?: readonly string[] | undefined; from?: readonly string[] | undefined },
  signal: AbortSignal,
  warn: (text: string) => void,
): Promise<Trust> {
  const { trustedPublicKey, from } = flags;
  const named = { keys: trustedPublicKey?.map(namedKey), upstreams: from?.map(parseUpstream) };
  let reading: Promise<NixConfig> | undefined;
  const read = (): Promise<NixConfig> => (reading ??= readKeptNixConfig(keptConfigFile(), { signal }));
  const http = async (): Promise<HttpClientOptions> => {
    const config = await read().catch((error: unknown) => {
      if (isNarswarmError(error, 'NIX_MISSING', 'NIX_FAILED')) return undefined; // the flags are enough
      throw error;
    });
    return { ...optionsOfNix(config, process.env), onWarning: (warning) => warn(warningSentence(warning)) };
  };
  const { keys, upstreams } = named;
  if (keys !== undefined && upstreams !== undefined) {
    if (upstreams.length > 0) read().catch(() => undefined); // in parallel with the start; the first request reports it
    return { keys, upstreams: uniqueUpstreams(upstreams), http };
  }
  const config = await read();
  return {
    keys: keys ?? (await keysOf(config)),
    upstreams: uniqueUpstreams(upstreams ?? config.substituters.flatMap((url) => usable(url, warn)), {
      // Narinfos must be checked if the user names keys.
      areTrusted: keys === undefined && !config.requireSigs,
    }),
    http,
  };
}

/**
 * Returns the keys whose signatures Nix wants. Undefined if it wants none.
 *
 * @throws NIX_MISSING, NIX_FAILED
 */
export async function readNixKeys(signal: AbortSignal): Promise<readonly PublicKey[] | undefined> {
  const config = await readKeptNixConfig(keptConfigFile(), { signal });
  return config.requireSigs ? keysOf(config) : undefined;
}

/** Returns the file that keeps Nix's answers. Undefined if this user has no folder for it. */
function keptConfigFile(): string | undefined {
  const folder = cacheFolder();
  return folder === undefined ? undefined : join(folder, 'narswarm-nix-config.json');
}

/**
 * Returns the keys that Nix trusts by default: `trusted-public-keys`, and the public halves of `secret-key-files` (Nix:
 * src/libstore/keys.cc). Skips unreadable files: on machines with several users they belong to root.
 */
async function keysOf({ trustedPublicKeys, secretKeyFiles }: NixConfig): Promise<PublicKey[]> {
  const own = await Promise.all(
    secretKeyFiles.map((file) =>
      loadSecretKey(file).then(
        (secret) => [parsePublicKey(formatPublicKey(secret))],
        () => [],
      ),
    ),
  );
  return [...trustedPublicKeys.map(configuredKey), ...own.flat()];
}

/** @throws KEY_INVALID, without the text: it may be a secret key in the wrong place */
function namedKey(text: string): PublicKey {
  const wayOut = text.includes(':') ? '' : '; if it is in a file, write "$(cat FILE)"';
  return readKey(text, '--trusted-public-key', wayOut);
}

function configuredKey(text: string): PublicKey {
  return readKey(text, 'trusted-public-keys of nix.conf');
}

function readKey(text: string, where: string, wayOut = ''): PublicKey {
  try {
    return parsePublicKey(text);
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    throw new NarswarmError(error.code, `${where}: ${error.message}${wayOut}`, { cause: error });
  }
}

/** Reads a substituter of nix.conf. Skips one that is neither a server nor a folder: only Nix can use it. */
function usable(url: string, warn: (text: string) => void): Upstream[] {
  try {
    return [parseUpstream(url)];
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    warn(`a substituter of nix.conf is skipped: ${error.message}`);
    return [];
  }
}
