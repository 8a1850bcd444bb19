/** The inputs of flakes, as their lock files fix them. */
import { NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { FLAKES, WITHOUT_NETWORK } from './programs/nix-eval.ts';
import { askNix, nixFailed, storeArgs, type StoreCallOptions } from './programs/run-nix.ts';
import { parseStorePath } from './store-path.ts';

/** Returns the flake that an installable names, such as `path:/etc/nixos` of `path:/etc/nixos#nixosConfigurations.x`. */
export function flakeOf(installable: string): string {
  const [flake = ''] = installable.split('#', 1);
  return flake === '' ? '.' : flake;
}

/**
 * Returns the store paths of the inputs of a flake, and of their inputs. Nix computes them from the lock file, without a
 * network; it needs the flake itself.
 *
 * @throws NarswarmError `NIX_MISSING`; `NIX_FAILED` in Nix's own words, for example if an input is not locked
 */
export async function flakeInputs(flake: string, options: StoreCallOptions = {}): Promise<StorePath[]> {
  const args = ['flake', 'archive', '--json', '--dry-run', '--offline', '--no-write-lock-file', ...storeArgs(options)];
  const result = await askNix('nix', [...FLAKES, ...args, flake], {
    ...options,
    env: WITHOUT_NETWORK,
    limitMs: Infinity,
  });
  if (result.failed) throw nixFailed(result);
  return parseFlakeInputs(result.stdout);
}

/**
 * Lets Nix fetch the inputs of a flake into its store, from their own addresses if no substituter has them.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words
 */
export async function archiveFlake(flake: string, options: StoreCallOptions = {}): Promise<void> {
  const args = ['flake', 'archive', '--no-write-lock-file', ...storeArgs(options), flake];
  const result = await askNix('nix', [...FLAKES, ...args], { ...options, limitMs: Infinity });
  if (result.failed) throw nixFailed(result);
}

/** Parses the JSON of `nix flake archive`. Leaves out the flake itself. @throws NarswarmError `NIX_FAILED` */
export function parseFlakeInputs(json: string): StorePath[] {
  const paths = new Set<StorePath>();
  const take = (flake: unknown): void => {
    const { inputs } = Object(flake) as { readonly inputs?: unknown };
    for (const input of Object.values(Object(inputs) as Record<string, unknown>)) {
      const { path } = Object(input) as { readonly path?: unknown };
      if (typeof path === 'string') paths.add(parseStorePath(path));
      take(input);
    }
  };
  try {
    take(JSON.parse(json));
  } catch (cause) {
    throw new NarswarmError('NIX_FAILED', 'nix flake archive printed something else than the inputs of a flake', {
      cause,
    });
  }
  return [...paths];
}
