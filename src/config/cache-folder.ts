import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { claimHome, homeFolder, isOfUserAlone } from './home.ts';

/**
 * Returns the folder for files that this program can make again, such as compiled code: CACHE_DIRECTORY of systemd,
 * else XDG_CACHE_HOME or its default. Makes it. Returns undefined unless it is of this user alone: with `sudo`, HOME
 * may be the home of another user, who could put code there for root to run.
 */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  try {
    const dir = cacheDir(env);
    const parent = dirname(dir);
    if (!existsSync(parent)) mkdirSync(parent, { mode: 0o700 });
    return ownFolder(dir);
  } catch {
    return undefined; // a home that cannot be written to, or that is another user's: the command reports it
  }
}

/** Makes a folder, unless it exists. Returns it if it is of this user alone, else undefined. */
export function ownFolder(dir: string): string | undefined {
  try {
    if (!existsSync(dir)) mkdirSync(dir, { mode: 0o700 });
    return isOfUserAlone(statSync(dir)) ? dir : undefined;
  } catch {
    return undefined;
  }
}

function cacheDir(env: NodeJS.ProcessEnv): string {
  const [systemd = ''] = (env['CACHE_DIRECTORY'] ?? '').split(':');
  if (systemd !== '') return systemd;
  const xdg = env['XDG_CACHE_HOME'] ?? '';
  if (xdg !== '') return xdg;
  claimHome(env);
  return join(homeFolder(env).dir, '.cache');
}
