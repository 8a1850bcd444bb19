/** A contestant that is fast because it leaves something out has not won. */
import { execa } from 'execa';
import type { BinaryCache } from './binary-cache.ts';
import { NIX_COMMAND } from './import-contestants.ts';
import type { ProcessOptions } from './process.ts';

/**
 * Makes sure that a store has every path of the cache, with its contents and a signature of the cache's key.
 *
 * @throws Error saying what is wrong
 */
export async function assertImported(
  store: string,
  cache: BinaryCache,
  { env, signal }: ProcessOptions,
): Promise<void> {
  const common = [...NIX_COMMAND, '--store', store, '--all'];
  const options = { env, extendEnv: false, cancelSignal: signal };
  const listed = await execa('nix', ['path-info', ...common], options);
  const found = new Set(listed.stdout.split('\n').map((path) => path.slice(path.lastIndexOf('/') + 1)));
  const missing = cache.baseNames.filter((name) => !found.has(name));
  if (missing.length > 0) throw new Error(`${missing.length} paths are missing: ${missing[0]}`);
  await execa('nix', ['store', 'verify', ...common], options);
}
