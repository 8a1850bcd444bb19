import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import { homeFolder } from '../../config/home.ts';
import { ignoredKeys, isUntrusted } from '../../nix/programs/daemon-trust.ts';
import { formatPublicKey, type PublicKey } from '../../nix/signature.ts';

/**
 * Warns before any download of keys that the Nix daemon will ignore, because an untrusted user names them.
 *
 * @param keys all keys that narinfos are checked with
 * @param options.named keys from the command line or the config file. Without these and without the user's own
 *   nix.conf, all keys are the system's, and the daemon knows them
 * @param options.stores the stores to import into; undefined: this machine's default store
 */
export async function warnOfIgnoredKeys(
  keys: readonly PublicKey[],
  options: {
    readonly named: readonly string[];
    readonly stores: ReadonlySet<string | undefined>;
    readonly signal: AbortSignal;
    readonly warn: (text: string) => void;
  },
): Promise<void> {
  const { named, stores, signal, warn } = options;
  if (named.length === 0 && !(await hasOwnNixConfig())) return;
  for (const store of stores) {
    const ignored = await ignoredKeys(keys.map(formatPublicKey), store, { signal }).catch((error: unknown) => {
      if (isNarswarmError(error, 'NIX_MISSING', 'NIX_FAILED')) return []; // if it matters, the import reports it
      throw error;
    });
    if (ignored.length === 0) continue;
    const names = ignored.map((key) => key.slice(0, key.indexOf(':'))).join(', ');
    warn(
      `the Nix daemon does not trust this user, so it will import nothing for a signature by ${names}: add the key to trusted-public-keys of /etc/nix/nix.conf, or the user to trusted-users there`,
    );
  }
}

/**
 * Checks before any download that Nix lets this user import without signatures.
 *
 * @param store the store to import into. Undefined: this machine's default store
 * @throws NIX_FAILED if its daemon does not trust the user
 */
export async function assertMayLeaveUnchecked(store: string | undefined, signal: AbortSignal): Promise<void> {
  const isRefused = await isUntrusted(store, { signal }).catch((error: unknown) => {
    if (isNarswarmError(error, 'NIX_MISSING', 'NIX_FAILED')) return false; // if it matters, the import reports it
    throw error;
  });
  if (!isRefused) return;
  throw new NarswarmError(
    'NIX_FAILED',
    'the Nix daemon does not trust this user and checks signatures whatever --no-check-sigs says: add the user to trusted-users of /etc/nix/nix.conf, or leave the flag out',
  );
}

async function hasOwnNixConfig(): Promise<boolean> {
  const { NIX_CONFIG = '', NIX_USER_CONF_FILES, XDG_CONFIG_HOME = '' } = process.env;
  if (NIX_CONFIG !== '' || NIX_USER_CONF_FILES !== undefined) return true;
  const folder = XDG_CONFIG_HOME === '' ? join(homeFolder().dir, '.config') : XDG_CONFIG_HOME;
  return access(join(folder, 'nix', 'nix.conf')).then(
    () => true,
    () => false,
  );
}
