/** Which config file, file store and publisher key there are where nobody names one. */
import { join } from 'node:path';
import { homeFolder } from './home.ts';

/** What the places depend on. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Root has the folders of the system, everybody else those of XDG. */
  readonly isRoot: boolean;
  readonly home: string;
}

/** A config file, and whether somebody asked for this one: then it has to be there. */
export interface ConfigLocation {
  readonly path: string;
  /** What named it, `--config` or `NARSWARM_CONFIG`; undefined: it is the default. */
  readonly namedBy?: string;
}

const SYSTEM_CONFIG = '/etc/narswarm/config.toml';
const SYSTEM_STATE = '/var/lib/narswarm';

/** The surroundings of this process. */
export function surroundings(): Surroundings {
  return { env: process.env, isRoot: process.getuid?.() === 0, home: homeFolder().dir };
}

/** `--config FILE`, else `NARSWARM_CONFIG`, else the system's for root and the user's own for others. */
export function configLocation(file: string | undefined, around: Surroundings = surroundings()): ConfigLocation {
  if (file !== undefined) return { path: file, namedBy: '--config' };
  const named = given(around, 'NARSWARM_CONFIG');
  if (named !== undefined) return { path: named, namedBy: 'NARSWARM_CONFIG' };
  return { path: around.isRoot ? SYSTEM_CONFIG : join(userConfigDir(around), 'config.toml') };
}

/** Where the file store is, unless said otherwise. systemd names the state folder of a service. */
export function defaultStoreDir(around: Surroundings = surroundings()): string {
  const state = stateDir(around);
  if (state !== undefined) return join(state, 'store');
  return join(given(around, 'XDG_CACHE_HOME') ?? join(around.home, '.cache'), 'narswarm');
}

/** Where the publisher's key is, unless said otherwise. */
export function defaultKeyFile(around: Surroundings = surroundings()): string {
  return join(stateDir(around) ?? userConfigDir(around), 'publisher.key');
}

/** STATE_DIRECTORY has several folders, with colons between them, where a unit asks for several. */
function stateDir(around: Surroundings): string | undefined {
  const [first] = given(around, 'STATE_DIRECTORY')?.split(':') ?? [];
  return first ?? (around.isRoot ? SYSTEM_STATE : undefined);
}

function userConfigDir(around: Surroundings): string {
  return join(given(around, 'XDG_CONFIG_HOME') ?? join(around.home, '.config'), 'narswarm');
}

/** XDG and systemd agree that an empty variable is an unset one. */
function given({ env }: Surroundings, name: string): string | undefined {
  return env[name] === '' ? undefined : env[name];
}
