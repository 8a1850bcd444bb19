import type { StorePath } from '../../nix/brands.ts';
import { isFixedOutput } from '../../nix/derivations/derivation.ts';
import { LocalDerivations } from '../../nix/derivations/local-derivations.ts';
import { madeBy, realisationFile, type Realisation } from '../../nix/realisation.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { queryRealisations } from '../../nix/programs/nix-queries.ts';
import { baseNameOf, storePathFromBaseName } from '../../nix/store-path.ts';

/**
 * Finds the realisations of paths, and of their dependencies, in Nix's default store. Nix stores them by derivation, so
 * only paths whose .drv files are on this machine are included. Never fails: a Nix without content-addressed
 * derivations has no realisations.
 *
 * @param infos narinfos of a closure
 */
export async function localRealisations(
  infos: readonly NarInfo[],
  { storeDir, signal }: { readonly storeDir: string; readonly signal: AbortSignal },
): Promise<Realisation[]> {
  const derivations = new LocalDerivations(storeDir);
  const paths = new Set(infos.map(({ storePath }) => baseNameOf(storePath)));
  const found = new Map<string, Realisation>();
  const asked = new Set<string>();
  const ask = async (derivation: string): Promise<void> => {
    if (asked.has(derivation)) return;
    asked.add(derivation);
    const drvPath: StorePath = storePathFromBaseName(derivation, storeDir);
    for (const realisation of await queryRealisations(drvPath, { signal })) {
      if (paths.has(realisation.outPath)) found.set(realisation.file, realisation);
    }
  };
  for (const info of infos) {
    const made = madeBy(info);
    const deriver = made && (await derivations.find(made.deriver));
    if (made === undefined || (deriver !== undefined && isFixedOutput(deriver))) continue;
    for (const derivation of await derivations.floating(made.derivationName, made.outputName)) await ask(derivation);
  }
  // They may depend on an ordinary path, whose deriver is known.
  const derivers = new Map(infos.map(({ storePath, deriver }) => [baseNameOf(storePath), deriver]));
  for (const { dependents } of found.values()) {
    for (const [file, path] of dependents) {
      const deriver = derivers.get(path);
      if (found.has(file) || deriver === undefined) continue;
      const hash = await derivations.hashOf(deriver);
      const isOf = hash !== undefined && file.startsWith(realisationFile(hash, '').slice(0, -'.doi'.length));
      if (isOf) await ask(deriver);
    }
  }
  signal.throwIfAborted();
  return [...found.values()];
}
