import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { claimHome, homeFolder } from './home.ts';

/**
 * Returns the folder for what this program can make again, such as compiled code: CACHE_DIRECTORY of systemd, else
 * XDG_CACHE_HOME or its default. Makes it. Returns undefined unless it belongs to this user: with `sudo`, HOME may be the
 * home of another user, who could put code there for root to run.
 */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  try {
    const dir = cacheDir(env);
    for (const path of [dirname(dir), dir]) if (!existsSync(path)) mkdirSync(path, { mode: 0o700 });
    const { uid, mode } = statSync(dir);
    return uid === process.getuid?.() && (mode & 0o002) === 0 ? dir : undefined;
  } catch {
    return undefined; // a home that nobody may write to, or that is another user's: the command reports it
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
