/**
 * Finds out whether the Nix daemon trusts this user. It accepts a user's own keys only from its `trusted-users` (Nix:
 * src/libstore/daemon.cc, `ClientSettings::apply`; src/nix/unix/daemon.cc, `matchUser`).
 */
import { daemonSocket } from './daemon-socket.ts';
import { describeStore, readNixConfig, readTrustedUsers } from './nix-settings.ts';
import type { CallOptions } from './run-nix.ts';
import { isAbsentStore, isRemoteStore } from '../store-place.ts';
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
  return (await trustIn(store, options)).isTrusted === false;
}

/** How this user's Nix works on a store. */
export interface NixAccess {
  /** Socket of the running daemon that does it. Undefined: Nix works on the store directly, or does not say. */
  readonly socket: string | undefined;
  /** True if it takes paths from caches of this user's choice: it works on the store directly, or its daemon trusts the user. */
  readonly choosesCaches: boolean;
}

/** @param store a store URI. Undefined: Nix's default store */
export async function accessTo(store: string | undefined, options: CallOptions = {}): Promise<NixAccess> {
  const { isTrusted, daemon } = await trustIn(store, options);
  return { socket: daemon && daemonSocket(daemon), choosesCaches: isTrusted === true };
}

interface Trust {
  /** Undefined if Nix does not say. */
  readonly isTrusted: boolean | undefined;
  /** URL of the daemon's store. Undefined: Nix works on the store directly, or does not say. */
  readonly daemon?: string;
}

async function trustIn(store: string | undefined, options: CallOptions): Promise<Trust> {
  if (store !== undefined && !/^(?:auto|daemon|unix:.*)$/.test(store)) return { isTrusted: true };
  if (await isAbsentStore(store)) return { isTrusted: true };
  const { url, isTrusted } = await describeStore({ ...options, store });
  if (url === undefined) return { isTrusted: undefined };
  if (!/^(?:daemon|unix:)/.test(url)) return { isTrusted: isRemoteStore(url) ? undefined : true };
  return {
    isTrusted: isTrusted ?? isAmong(await readTrustedUsers({ ...options, env: SYSTEM_ONLY }), await thisUser()),
    daemon: url,
  };
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
