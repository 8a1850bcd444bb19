/** Judges whether a rebuild works without a network, and asks sources for missing paths. */
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { PrefetchResult } from '../fetch/prefetch-result.ts';
import { BuildGraph } from '../nix/derivations/build-graph.ts';
import type { FileHash, StorePath } from '../nix/brands.ts';
import { flakeInputs, flakeOf } from '../nix/flake-inputs.ts';
import { evaluate } from '../nix/programs/nix-eval.ts';
import { queryDeriver } from '../nix/programs/nix-queries.ts';
import type { StoreCallOptions } from '../nix/programs/run-nix.ts';
import { isDerivationPath } from '../nix/store-path.ts';
import { Here, type HereOptions } from './here.ts';
import { findLacking, type Lacking, type Need } from './lacking.ts';

/** A thing to rebuild: an installable, an attribute of a Nix file, or a path in the store (its derivation, if known). */
export type RebuildTarget =
  | { readonly kind: 'installable'; readonly installable: string }
  | { readonly kind: 'attribute'; readonly file: string; readonly attribute: string }
  | { readonly kind: 'store-path'; readonly path: StorePath };

/** Where a missing path can come from, as far as somebody was asked. */
export type Offer = 'source' | 'nowhere' | 'unknown';

/** A missing path, with the answers of the sources about it. */
export interface LackingOffer extends Lacking {
  readonly offer: Offer;
  /** True if the file store holds it, but Nix would not get it from there. */
  readonly isStored: boolean;
  /** Bytes of its own NAR file. Undefined if they are unknown. */
  readonly sizeBytes: number | undefined;
}

/** The answer to the question of `narswarm ready`. It is yes if nothing is lacking. */
export interface Readiness {
  readonly lacking: readonly LackingOffer[];
  /** Number of derivations that a change may have to build again. */
  readonly builds: number;
  /** The NAR files to download, of the missing paths and their closures: their number and bytes. */
  readonly download: { readonly nars: number; readonly bytes: number };
  /** Number of paths that only the file store holds: needed ones that count as here, or missing ones. */
  readonly stored: number;
  /** Paths of which no derivation is known: only they themselves were looked at. */
  readonly underived: readonly StorePath[];
  /** Flakes that Nix did not evaluate, since their inputs are missing. The builds are unknown. */
  readonly unevaluated: readonly string[];
  /** All paths that were wanted, missing or not. */
  readonly needed: ReadonlySet<StorePath>;
}

/** Fetches a path that no cache has from the address that Nix knows. */
export interface Obtain {
  /** Fetches missing inputs of a flake into the Nix store. */
  readonly flakeInputs: (flake: string, absent: readonly StorePath[]) => Promise<void>;
  /** Lets Nix make a fixed output, mostly a download. Does not fail if Nix does. */
  readonly source: (path: StorePath, drvPath: StorePath) => Promise<void>;
}

export interface AssessOptions extends HereOptions {
  /** True to want all fixed outputs of the build closures, as for a build from nothing. */
  readonly withSources: boolean;
  /** Fetches paths, or makes the plan of a fetch (a dry run), as far as possible. Undefined: no source is asked. */
  readonly fetch?: ((roots: readonly StorePath[]) => Promise<PrefetchResult>) | undefined;
  /** Makes `fetch` a real one, into the Nix store. Undefined: nothing is changed. */
  readonly obtain?: Obtain | undefined;
  /** Called with each step, for people. */
  readonly onStep?: ((step: AssessStep) => void) | undefined;
}

export type AssessStep =
  | { readonly kind: 'evaluating'; readonly installable: string }
  | { readonly kind: 'looking'; readonly builds: number }
  | { readonly kind: 'asking'; readonly paths: number };

/** The starting points of a rebuild. */
interface Start {
  readonly drvPaths: StorePath[];
  readonly flakeInputs: Set<StorePath>;
  readonly outputs: StorePath[];
  readonly unevaluated: string[];
}

/**
 * Judges whether rebuilds of targets would work without a network. Nix evaluates without one. Only `fetch` uses a network.
 *
 * @throws NIX_MISSING; NIX_FAILED, for example if Nix cannot evaluate without a network; DERIVATION_INVALID; those of
 *   `fetch`; the signal's reason
 */
export async function assess(targets: readonly RebuildTarget[], options: AssessOptions): Promise<Readiness> {
  const { fetch, obtain, onStep, signal } = options;
  await using here = await Here.open(options);
  const graph = new BuildGraph(options);
  const start = await startOf(targets, here, options);
  const asked = new Set<StorePath>();
  const nowhere = new Set<StorePath>();
  const obtained = new Set<StorePath>();
  const offers = new Offers();
  for (;;) {
    const isNowhere = (path: StorePath): boolean => nowhere.has(path);
    const {
      lacking: found,
      builds,
      needed: inputs,
    } = await findLacking(start.drvPaths, { graph, here, isNowhere, signal });
    onStep?.({ kind: 'looking', builds: builds.size });
    const sources = options.withSources ? await allSources(start.drvPaths, graph) : [];
    await here.look(sources.map(({ path }) => path));
    const all = [...sources.filter(({ path }) => !here.has(path)), ...(await lackingOf(start, here)), ...found];
    const lacking = new Map(all.map((one) => [one.path, one]));
    const needed = new Set([...start.flakeInputs, ...start.outputs, ...sources.map(({ path }) => path), ...inputs]);
    const canFetch = (path: StorePath): boolean => obtain !== undefined || !here.isOnlyStored(path);
    const toAsk = [...lacking.keys()].filter((path) => !asked.has(path) && canFetch(path));
    if (fetch === undefined || toAsk.length === 0) {
      const toObtain = [...lacking.values()].filter(({ path, need }) => need === 'source' && !obtained.has(path));
      for (const { path, drvPath } of obtain === undefined ? [] : toObtain) {
        obtained.add(path);
        if (drvPath !== undefined) await obtain?.source(path, drvPath);
      }
      if (obtain !== undefined && toObtain.length > 0) {
        here.forgetAbsent();
        continue;
      }
      const offered = Array.from(lacking.values(), (one): LackingOffer => ({
        ...one,
        isStored: here.isOnlyStored(one.path),
        offer: isNowhere(one.path) ? 'nowhere' : offers.has(one.path) ? 'source' : 'unknown',
        sizeBytes: offers.sizeOf(one.path),
      }));
      return {
        lacking: offered,
        builds: builds.size,
        download: offers.download(),
        stored: options.countsStored ? here.storedCount : offered.filter(({ isStored }) => isStored).length,
        underived: start.outputs,
        unevaluated: start.unevaluated,
        needed,
      };
    }
    onStep?.({ kind: 'asking', paths: toAsk.length });
    const part = await fetch(toAsk);
    for (const path of toAsk) asked.add(path);
    const absent = new Set<string>(part.missing.filter((one) => one.isNowhere).map(({ path }) => path));
    for (const path of toAsk) if (absent.has(path)) nowhere.add(path);
    offers.take(part);
    here.forgetAbsent();
  }
}

/** The paths that sources offered, and the sizes of their NARs. */
class Offers {
  readonly #sizes = new Map<StorePath, number>();
  readonly #paths = new Set<StorePath>();
  readonly #files = new Map<FileHash | StorePath, number>();

  take({ closure, plan }: PrefetchResult): void {
    for (const { storePath } of closure.values()) this.#paths.add(storePath);
    for (const { fileHash, sizeBytes, storePaths } of plan.jobs) {
      this.#files.set(fileHash, sizeBytes);
      for (const path of storePaths) this.#sizes.set(path, sizeBytes);
    }
    for (const { storePath } of plan.unsized) this.#files.set(storePath, 0);
  }

  has(path: StorePath): boolean {
    return this.#paths.has(path);
  }

  sizeOf(path: StorePath): number | undefined {
    return this.#sizes.get(path);
  }

  download(): Readiness['download'] {
    const sizes = [...this.#files.values()];
    return { nars: sizes.length, bytes: sizes.reduce((sum, bytes) => sum + bytes, 0) };
  }
}

/** Finds the derivations and the flake inputs of targets. Evaluates no flake whose inputs are missing. */
async function startOf(
  targets: readonly RebuildTarget[],
  here: Here,
  options: Pick<AssessOptions, 'onStep' | 'obtain'> & StoreCallOptions,
): Promise<Start> {
  const start: Start = { drvPaths: [], flakeInputs: new Set(), outputs: [], unevaluated: [] };
  for (const target of targets) {
    if (target.kind === 'store-path') {
      await addPath(target.path);
      continue;
    }
    const isFlake = target.kind === 'installable';
    const text = isFlake ? target.installable : target.attribute;
    options.onStep?.({ kind: 'evaluating', installable: text });
    if (isFlake && !(await addInputs(flakeOf(text)))) {
      start.unevaluated.push(text);
      continue;
    }
    const file = isFlake ? undefined : target.file;
    const value = await evaluate(text, { ...options, file, offline: true }).catch((cause: unknown) =>
      Promise.reject(cannotEvaluate(text, cause, isFlake)),
    );
    if (value.kind === 'derivation') start.drvPaths.push(value.drvPath);
    else await addPath(value.path);
  }
  return start;

  async function addPath(path: StorePath): Promise<void> {
    await here.look([path]);
    if (isDerivationPath(path)) start.drvPaths.push(path);
    else {
      const drvPath = here.isValid(path) ? await queryDeriver(path, options) : undefined;
      if (drvPath !== undefined) await here.look([drvPath]);
      if (drvPath !== undefined && here.isValid(drvPath)) start.drvPaths.push(drvPath);
      else start.outputs.push(path);
    }
  }

  /** Returns true if all inputs of a flake are in the Nix store. */
  async function addInputs(flake: string): Promise<boolean> {
    const inputs = await flakeInputs(flake, options).catch((cause: unknown) =>
      Promise.reject(cannotEvaluate(flake, cause, true)),
    );
    await here.look(inputs);
    for (const path of inputs) start.flakeInputs.add(path);
    const absent = inputs.filter((path) => !here.isValid(path));
    if (absent.length > 0 && options.obtain !== undefined) {
      await options.obtain.flakeInputs(flake, absent);
      here.forgetAbsent();
      await here.look(inputs);
    }
    return inputs.every((path) => here.isValid(path));
  }
}

/** @param isFlake false for an attribute of a file */
function cannotEvaluate(text: string, cause: unknown, isFlake: boolean): unknown {
  if (!isNarswarmError(cause, 'NIX_FAILED') || cause.facts.isDaemonDenied === true) return cause;
  const { words = cause.message, isOfNetwork } = cause.facts;
  const lock = isFlake ? 'lock its inputs (nix flake lock), and ' : '';
  const message =
    isOfNetwork === true
      ? `${text} cannot be evaluated without a network: ${words}: ${lock}evaluate it once with a network`
      : `${text} cannot be evaluated: ${words}`;
  return new NarswarmError('NIX_FAILED', message, { cause, facts: cause.facts });
}

/** Returns missing flake inputs and outputs. Nix evaluates with valid paths alone. */
async function lackingOf({ flakeInputs: inputs, outputs }: Start, here: Here): Promise<Lacking[]> {
  await here.look([...inputs, ...outputs]);
  const needed = (path: StorePath, need: Need): Lacking => ({ path, need, neededBy: undefined, drvPath: undefined });
  return [
    ...Array.from(inputs, (path) => (here.isValid(path) ? [] : [needed(path, 'flake-input')])),
    ...outputs.map((path) => (here.has(path) ? [] : [needed(path, 'output')])),
  ].flat();
}

/** Returns the fixed outputs in the build closures of derivations. */
async function allSources(drvPaths: readonly StorePath[], graph: BuildGraph): Promise<Lacking[]> {
  const sources: Lacking[] = [];
  for (const top of drvPaths)
    for (const [path, drvPath] of await graph.sourcesWithMakers(top))
      sources.push({ path, need: 'source', neededBy: undefined, drvPath });
  return sources;
}
