import { enableCompileCache, flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { cacheFolder } from '../config/cache-folder.ts';

/**
 * Lets Node cache compiled code in a folder of this user alone. Node's default folder is below /tmp and shared: another
 * user could put code there for root to run. Without a folder of its own, nothing is cached.
 */
export function keepCompiled(): void {
  const dir = compileCacheDir();
  if (dir !== undefined) enableCompileCache(dir);
}

/** Saves what was compiled so far. Node itself saves it only at a normal end, which a service that is killed never has. */
export function saveCompiled(): void {
  flushCompileCache();
}

function compileCacheDir(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const own = env['NODE_COMPILE_CACHE'];
  if (own !== undefined && own !== '') return own;
  const cache = cacheFolder(env);
  return cache === undefined ? undefined : join(cache, 'narswarm-compiled');
}
