import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { claimHome, homeFolder } from '../config/home.ts';

/**
 * Lets Node keep what it has compiled in a folder of this user's alone. Its default is one for all below /tmp, in which
 * somebody else could lay code for root to run. Where there is no such folder, nothing is kept.
 */
export function keepCompiled(): void {
  const dir = compileCacheDir();
  if (dir !== undefined) enableCompileCache(dir);
}

function compileCacheDir(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const own = env['NODE_COMPILE_CACHE'];
  if (own !== undefined && own !== '') return own;
  const [systemd = ''] = (env['CACHE_DIRECTORY'] ?? '').split(':');
  if (systemd !== '') return join(systemd, 'compiled');
  const cache = env['XDG_CACHE_HOME'] ?? '';
  if (cache !== '') return join(cache, 'narswarm-compiled');
  try {
    claimHome(env);
  } catch {
    return undefined; // the command says so
  }
  return join(homeFolder(env).dir, '.cache', 'narswarm-compiled');
}
