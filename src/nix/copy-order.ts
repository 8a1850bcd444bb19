/**
 * Which paths one `nix copy` may name. A .drv path means its outputs to Nix before 2.15, which then builds them; with
 * `--derivation` it is the file itself, for every version, but any other path then means the .drv that it was built from
 * (Nix: `toBuiltPaths` in src/libcmd/installables.cc). So both kinds take a call of their own.
 */
import type { StorePath } from './brands.ts';
import { baseNameOf, isDerivationPath } from './store-path.ts';
import type { ValidPath } from './valid-path.ts';

/** Paths of one kind. */
export interface CopyCall {
  /** True: .drv files, as `nix copy --derivation` takes them. */
  readonly isDerivations: boolean;
  readonly paths: readonly StorePath[];
}

/** The calls that copy these paths with all that they refer to; their order does not matter. */
export function callsByKind(paths: readonly StorePath[]): CopyCall[] {
  const { true: derivations = [], false: others = [] } = Object.groupBy(paths, (path) => `${isDerivationPath(path)}`);
  return [
    { isDerivations: false, paths: others },
    { isDerivations: true, paths: derivations },
  ].filter((call) => call.paths.length > 0);
}

/**
 * The calls that copy these paths alone (`--no-recursive`), each call after what its paths refer to: as few as that allows.
 *
 * @param paths references first; what they refer to outside of them is there already
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
    if (taken.length === 0) throw new TypeError('paths have to come after what they refer to');
  }
  return calls;
}
