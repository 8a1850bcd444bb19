/**
 * Decides which paths one `nix copy` may name. Before Nix 2.15 a .drv path means its outputs, and Nix builds them. With
 * `--derivation` it means the file itself in every version, but any other path then means the .drv that built it (Nix:
 * `toBuiltPaths` in src/libcmd/installables.cc). So each kind takes a call of its own.
 */
import type { StorePath } from './brands.ts';
import { baseNameOf, isDerivationPath } from './store-path.ts';
import type { ValidPath } from './valid-path.ts';

/** Paths of one kind. */
export interface CopyCall {
  /** True if they are .drv files, copied by `nix copy --derivation`. */
  readonly isDerivations: boolean;
  readonly paths: readonly StorePath[];
}

/** Returns the calls that copy these paths with everything they refer to. The order of the calls does not matter. */
export function callsByKind(paths: readonly StorePath[]): CopyCall[] {
  const { true: derivations = [], false: others = [] } = Object.groupBy(paths, (path) => `${isDerivationPath(path)}`);
  return [
    { isDerivations: false, paths: others },
    { isDerivations: true, paths: derivations },
  ].filter((call) => call.paths.length > 0);
}

/**
 * Returns the fewest calls that copy these paths alone (`--no-recursive`), each after the calls for its references.
 *
 * @param paths references first; references to other paths are already in the target
 */
export function callsInOrder(paths: readonly Pick<ValidPath, 'storePath' | 'references'>[]): CopyCall[] {
  const waiting = new Set<string>(paths.map(({ storePath }) => baseNameOf(storePath)));
  const calls: CopyCall[] = [];
  for (let left = paths; left[0] !== undefined;) {
    const isDerivations = isDerivationPath(left[0].storePath);
    const taken: StorePath[] = [];
    left = left.filter(({ storePath, references }) => {
      const own = baseNameOf(storePath);
      const isReady = references.every((name) => name === own || !waiting.has(name));
      if (isDerivationPath(storePath) !== isDerivations || !isReady) return true;
      waiting.delete(own);
      taken.push(storePath);
      return false;
    });
    calls.push({ isDerivations, paths: taken });
    if (taken.length === 0) throw new TypeError('paths must come after their references');
  }
  return calls;
}
