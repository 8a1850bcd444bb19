import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * Where Node keeps what it has compiled: a folder of this user's alone. Its default is one for all below /tmp, in which
 * somebody else could lay code for root to run.
 */
export function compileCacheDir(env: NodeJS.ProcessEnv = process.env): string {
  const own = env['NODE_COMPILE_CACHE'];
  if (own !== undefined && own !== '') return own;
  const [systemd = ''] = (env['CACHE_DIRECTORY'] ?? '').split(':');
  if (systemd !== '') return join(systemd, 'compiled');
  return join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'narswarm-compiled');
}
