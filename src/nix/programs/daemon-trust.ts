/**
 * Finds out whether the Nix daemon trusts this user. It accepts a user's own keys only from its `trusted-users` (Nix:
 * src/libstore/daemon.cc, `ClientSettings::apply`; src/nix/unix/daemon.cc, `matchUser`).
 */
import { describeStore, readNixConfig, readTrustedUsers } from './nix-settings.ts';
import type { CallOptions } from './run-nix.ts';
import { isAbsentStore } from '../store-place.ts';
import { nameOfUser, readGroups } from './system-users.ts';

/** Clears the user's own settings: the daemon reads only those of the system. */
const SYSTEM_ONLY = { NIX_CONFIG: '', NIX_USER_CONF_FILES: '' };

/** A user, to be looked up in `trusted-users`. */
export interface NixUser {
  readonly name: string;
  readonly groups: readonly string[];
}

/**
 * Returns true if imports go through a Nix daemon that does not trust this user. Returns false if Nix works on its
 * store directly, or if Nix does not say.
 */
export async function isUntrusted(store: string | undefined, options: CallOptions = {}): Promise<boolean> {
  return (await trustIn(store, options)) === false;
}

/**
 * Returns true if this user can choose the caches that Nix takes paths from: Nix works on the store directly, or its
 * daemon trusts the user. Returns false if Nix does not say.
 */
export async function choosesSubstituters(store: string | undefined, options: CallOptions = {}): Promise<boolean> {
  return (await trustIn(store, options)) === true;
}

/** Returns undefined if Nix does not say. */
async function trustIn(store: string | undefined, options: CallOptions): Promise<boolean | undefined> {
  if (store !== undefined && !/^(?:auto|daemon|unix:.*)$/.test(store)) return true;
  if (await isAbsentStore(store)) return true;
  const { url, isTrusted } = await describeStore({ ...options, store });
  if (url === undefined) return undefined;
  if (!/^(?:daemon|unix:)/.test(url)) return true;
  return isTrusted ?? isAmong(await readTrustedUsers(options), await thisUser());
}

/**
 * Returns the keys that the daemon ignores from this user.
 *
 * @param keys `<name>:<base64>` each
 * @param store the target of the import. Undefined: this machine's default store
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words
 */
export async function ignoredKeys(
  keys: readonly string[],
  store: string | undefined,
  options: CallOptions = {},
): Promise<readonly string[]> {
  if (keys.length === 0 || !(await isUntrusted(store, options))) return [];
  const { trustedPublicKeys } = await readNixConfig({ ...options, env: SYSTEM_ONLY });
  return keys.filter((key) => !trustedPublicKeys.includes(key));
}

/** Returns true if `trusted-users` includes a user: by name, by group (`@wheel`), or as everybody (`*`). */
export function isAmong(trustedUsers: readonly string[], { name, groups }: NixUser): boolean {
  return trustedUsers.some((word) => word === '*' || word === name || groups.some((group) => word === `@${group}`));
}

async function thisUser(): Promise<NixUser> {
  const name = nameOfUser();
  const own = new Set([process.getgid?.(), ...(process.getgroups?.() ?? [])].map(String));
  const groups = (await readGroups()).filter(({ id, members }) => own.has(id) || members.includes(name));
  return { name, groups: groups.map((group) => group.name) };
}
