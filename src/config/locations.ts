/** Default places of the config file, the file store and the publisher's key. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { homeFolder } from './home.ts';

/** The facts that decide the places. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** True for root of the system, who has its folders. Other users have those of XDG. */
  readonly isRoot: boolean;
  readonly home: string;
}

/** A config file. It must exist if somebody named it. */
export interface ConfigLocation {
  readonly path: string;
  /** `--config` or `NARSWARM_CONFIG`, whichever named it. Undefined for the default. */
  readonly namedBy?: string;
}

const SYSTEM_CONFIG = '/etc/narswarm/config.toml';
const SYSTEM_STATE = '/var/lib/narswarm';

/** Returns the surroundings of this process. */
export function surroundings(): Surroundings {
  return { env: process.env, isRoot: isSystemRoot(), home: homeFolder().dir };
}

/**
 * Returns false also for the root of a user namespace, as `unshare --map-root-user` makes it for a user: the folders of the
 * system belong to somebody else. In a container they belong to its root.
 */
function isSystemRoot(): boolean {
  return process.getuid?.() === 0 && statSync('/').uid === 0;
}

/**
 * Returns the first of: `--config FILE`, `NARSWARM_CONFIG`, the file in the configuration folder of a service of systemd,
 * the system's file for root, the user's own file for others.
 */
export function configLocation(file: string | undefined, around: Surroundings = surroundings()): ConfigLocation {
  if (file !== undefined) return { path: file, namedBy: '--config' };
  const named = given(around, 'NARSWARM_CONFIG');
  if (named !== undefined) return { path: named, namedBy: 'NARSWARM_CONFIG' };
  const [folder] = given(around, 'CONFIGURATION_DIRECTORY')?.split(':') ?? [];
  if (folder !== undefined) return { path: join(folder, 'config.toml') };
  return { path: around.isRoot ? SYSTEM_CONFIG : join(userConfigDir(around), 'config.toml') };
}

/** Returns the default file store. systemd names the state folder of a service. */
export function defaultStoreDir(around: Surroundings = surroundings()): string {
  const state = stateDir(around);
  if (state !== undefined) return join(state, 'store');
  return join(given(around, 'XDG_CACHE_HOME') ?? join(around.home, '.cache'), 'narswarm');
}

/** Returns the folder of pushes, to and from this machine. NARs of an interrupted push stay there. */
export function pushDir(around: Surroundings = surroundings()): string {
  const state = stateDir(around);
  if (state !== undefined) return join(state, 'push');
  return join(given(around, 'XDG_CACHE_HOME') ?? join(around.home, '.cache'), 'narswarm-push');
}

/** Returns the default file of the publisher's key. */
export function defaultKeyFile(around: Surroundings = surroundings()): string {
  return join(stateDir(around) ?? userConfigDir(around), 'publisher.key');
}

/** Returns the first state folder. STATE_DIRECTORY separates several by colons, if a unit asks for several. */
function stateDir(around: Surroundings): string | undefined {
  const [first] = given(around, 'STATE_DIRECTORY')?.split(':') ?? [];
  return first ?? (around.isRoot ? SYSTEM_STATE : undefined);
}

function userConfigDir(around: Surroundings): string {
  return join(given(around, 'XDG_CONFIG_HOME') ?? join(around.home, '.config'), 'narswarm');
}

/** Returns a variable. XDG and systemd agree that an empty one counts as unset. */
function given({ env }: Surroundings, name: string): string | undefined {
  return env[name] === '' ? undefined : env[name];
}
