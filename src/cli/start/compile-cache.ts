import { enableCompileCache, flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { cacheFolder, ownFolder } from '../../config/cache-folder.ts';
import { loadCore } from './core-script.ts';
import { optimizeNow } from './late-optimizing.ts';

const NOTHING = (): void => undefined;
let saveCore = NOTHING;

/**
 * Keeps compiled code in a folder of this user alone. Node's default folder is below /tmp and shared: another user
 * could put code there for root to run. Without a folder of its own, nothing is kept. Node keeps functions that are
 * compiled while a file is loaded; of the core, all compiled functions are kept ({@link loadCore}).
 *
 * @param words the words after the program's name
 */
export function keepCompiled([command = '']: readonly string[]): void {
  const dir = compileCacheDir();
  if (dir === undefined) return;
  const { directory } = enableCompileCache(dir);
  if (directory !== undefined) saveCore = loadCore(directory, /^[a-z]+$/.test(command) ? command : 'others');
}

/** Saves the code that was compiled so far. Node saves it only at an orderly end, which a killed service never has. */
export function saveCompiled(): void {
  optimizeNow();
  saveCore();
  saveCore = NOTHING;
  flushCompileCache();
}

function compileCacheDir(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const own = env['NODE_COMPILE_CACHE'];
  if (own !== undefined && own !== '') return own;
  const cache = cacheFolder(env);
  return cache === undefined ? undefined : ownFolder(join(cache, 'narswarm-compiled'));
}
