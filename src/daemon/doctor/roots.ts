import type { StorePath } from '../../nix/brands.ts';
import { queryInvalidPaths, queryRoots } from '../../nix/programs/nix-queries.ts';
import { placeOfRoots } from '../../nix/roots/root-links.ts';
import { isAbsentStore } from '../../nix/store-place.ts';
import { isNarswarmError } from '../../errors.ts';
import { found, type Finding } from './finding.ts';

/** The newest complete generation of a subscription that is imported. */
export interface ImportedGeneration {
  readonly name: string;
  /** The store that it is imported into. Undefined: the default one. */
  readonly to: string | undefined;
  readonly paths: readonly StorePath[];
}

/** Limit on paths whose roots are looked up: Nix looks through all roots each time. */
const MAX_PATHS = 5;

/** Time for an answer of Nix, which may have to look through many roots. */
const LIMIT_MS = 60_000;

/** Finds imported paths that Nix has collected, or may collect. Says nothing of stores that keep no roots here. */
export async function* examineRoots(
  imported: readonly ImportedGeneration[],
  signal: AbortSignal,
): AsyncGenerator<Finding> {
  for (const { name, to: store, paths } of imported) {
    const options = { store, signal, limitMs: LIMIT_MS };
    try {
      if ((await placeOfRoots(options)) !== 'here') continue;
      const isAbsent = await isAbsentStore(store); // Nix would create it for the question
      const collected = isAbsent ? [...paths] : [...(await queryInvalidPaths(paths, store, options))];
      const rootless: StorePath[] = [];
      for (const path of paths.filter((one) => !collected.includes(one)).slice(0, MAX_PATHS))
        if ((await queryRoots(path, options)).length === 0) rootless.push(path);
      const verdict = collected.length > 0 ? 'bad' : rootless.length > 0 ? 'unsure' : 'good';
      yield found('roots', verdict, { name, paths: paths.length, collected, rootless });
    } catch (error) {
      if (!isNarswarmError(error, 'NIX_FAILED', 'NIX_MISSING')) throw error; // found before
    }
  }
}
