/** Finds the paths that a rebuild without a network would lack. */
import type { BuildGraph } from '../nix/derivations/build-graph.ts';
import type { StorePath } from '../nix/brands.ts';
import { isFixedOutput, isMadeLocally } from '../nix/derivations/derivation.ts';
import type { Here } from './here.ts';

/**
 * Why a rebuild needs a path:
 *
 * - `output`: it was named itself, and its derivation is unknown
 * - `build-input`: a build that a change may repeat needs it
 * - `source`: a fixed output, such as a downloaded archive, that a build needs
 * - `flake-input`: Nix needs it to evaluate
 */
export type Need = 'output' | 'build-input' | 'source' | 'flake-input';

/** A path that a rebuild needs and that is not here. */
export interface Lacking {
  readonly path: StorePath;
  readonly need: Need;
  /** The derivation whose build needs it. Undefined for flake inputs and outputs. */
  readonly neededBy: StorePath | undefined;
  /** The derivation that makes it. Undefined if it is unknown. */
  readonly drvPath: StorePath | undefined;
}

interface Means {
  readonly graph: BuildGraph;
  readonly here: Here;
  /** Returns true for a path that no cache has: only a build makes it. */
  readonly isNowhere: (path: StorePath) => boolean;
  readonly signal?: AbortSignal | undefined;
}

/** An input of a build: some outputs of a derivation. Undefined for an output that only the build decides. */
interface Input {
  readonly drvPath: StorePath;
  readonly outputs: readonly (StorePath | undefined)[];
  readonly neededBy: StorePath;
}

/** The builds and inputs of a rebuild. */
export interface Rebuild {
  readonly lacking: readonly Lacking[];
  /** The derivations that a change may have to build again. */
  readonly builds: ReadonlySet<StorePath>;
  /** The paths that these builds take and that a change leaves as they are, missing or not. */
  readonly needed: ReadonlySet<StorePath>;
}

/**
 * Finds the paths that the builds of a configuration lack. A change of the configuration may repeat
 *
 * - the builds of the named derivations;
 * - of their inputs, those that are made on the machine that needs them (`preferLocalBuild` or `allowSubstitutes = false`,
 *   as nixpkgs marks files of /etc, units and systems), those that this machine has built itself, and those that are not
 *   here and that no cache has, or for whose build everything is here;
 * - of the inputs of these, the same kinds.
 *
 * All other inputs of these builds must be here, with their closures. Fixed outputs are downloads: their builds do not
 * count.
 *
 * @throws DERIVATION_INVALID; NIX_MISSING, NIX_FAILED; the signal's reason
 */
export async function findLacking(tops: readonly StorePath[], means: Means): Promise<Rebuild> {
  const { graph, here, isNowhere, signal } = means;
  const lacking = new Map<StorePath, Lacking>();
  const builds = new Set<StorePath>();
  const needed = new Set<StorePath>();
  const buildable = new Map<StorePath, Promise<boolean>>();
  let layer = await withoutSources(tops, means, lacking);
  while (layer.length > 0) {
    signal?.throwIfAborted();
    for (const drvPath of layer) builds.add(drvPath);
    const inputs = (await Promise.all(layer.map((drvPath) => inputsOf(drvPath, graph)))).flat();
    const paths = inputs.flatMap(({ outputs }) => outputs.filter((path) => path !== undefined));
    await here.look(paths);
    const isBuiltHere = await here.builtHere(paths);
    const next = new Set<StorePath>();
    for (const input of inputs) {
      const { drvPath, outputs, neededBy } = input;
      if (builds.has(drvPath) || next.has(drvPath)) continue;
      const derivation = await graph.derivation(drvPath);
      const absent = outputs.filter((path) => path === undefined || !here.has(path));
      const isSource = isFixedOutput(derivation);
      const isOfConfiguration =
        isMadeLocally(derivation) || outputs.some((path) => path !== undefined && isBuiltHere(path));
      const isBuilt =
        !isSource &&
        (isOfConfiguration ||
          (absent.length > 0 &&
            (absent.every((path) => path === undefined || isNowhere(path)) ||
              (await canBuild(drvPath, means, buildable)))));
      if (isBuilt) {
        next.add(drvPath);
        continue;
      }
      for (const path of outputs) if (path !== undefined) needed.add(path);
      for (const path of absent)
        if (path !== undefined)
          lacking.set(path, { path, need: isSource ? 'source' : 'build-input', neededBy, drvPath });
    }
    layer = [...next];
  }
  return { lacking: [...lacking.values()], builds, needed };
}

/** Returns the derivations that are not fixed outputs. A fixed output must be here itself. */
async function withoutSources(
  tops: readonly StorePath[],
  { graph, here }: Means,
  lacking: Map<StorePath, Lacking>,
): Promise<StorePath[]> {
  const rest: StorePath[] = [];
  for (const drvPath of new Set(tops)) {
    const derivation = await graph.derivation(drvPath);
    const path = isFixedOutput(derivation) ? derivation.outputs.get('out')?.path : undefined;
    if (path === undefined) {
      rest.push(drvPath);
      continue;
    }
    await here.look([path]);
    if (!here.has(path)) lacking.set(path, { path, need: 'source', neededBy: undefined, drvPath });
  }
  return rest;
}

async function inputsOf(neededBy: StorePath, graph: BuildGraph): Promise<Input[]> {
  const { inputDrvs } = await graph.derivation(neededBy);
  return Promise.all(
    Array.from(inputDrvs, async ([drvPath, names]) => ({
      drvPath,
      outputs: await graph.outputs(drvPath, names),
      neededBy,
    })),
  );
}

/** Returns true if all inputs of a derivation's build are here, or can be built from paths that are here. */
function canBuild(drvPath: StorePath, means: Means, known: Map<StorePath, Promise<boolean>>): Promise<boolean> {
  const found = known.get(drvPath) ?? decide();
  known.set(drvPath, found);
  return found;

  async function decide(): Promise<boolean> {
    const { graph, here, signal } = means;
    signal?.throwIfAborted();
    const inputs = await inputsOf(drvPath, graph);
    await here.look(inputs.flatMap(({ outputs }) => outputs.filter((path) => path !== undefined)));
    const absent = inputs.filter(({ outputs }) => outputs.some((path) => path === undefined || !here.has(path)));
    // Fixed outputs first: one that is absent decides, and costs no further question.
    for (const input of absent) if (isFixedOutput(await graph.derivation(input.drvPath))) return false;
    for (const input of absent) if (!(await canBuild(input.drvPath, means, known))) return false;
    return true;
  }
}
