import PQueue from 'p-queue';
import type { StorePath } from '../brands.ts';
import { type Derivation, isFixedOutput } from './derivation.ts';
import { queryClosure } from '../programs/nix-queries.ts';
import type { StoreCallOptions } from '../programs/run-nix.ts';
import { readDerivation } from './read-derivation.ts';

/** Files that are read at once. Each may start a process, which keeps two cores busy. */
const CONCURRENCY = 4;

/**
 * The inputs of builds, from the .drv files of a store. Reads files on demand, each once. Throws the same errors as
 * {@link readDerivation}.
 */
export class BuildGraph {
  readonly #options: StoreCallOptions;
  readonly #derivations = new Map<StorePath, Promise<Derivation>>();
  /** The derivation that makes a path, for paths of derivations that were read. */
  readonly #makers = new Map<StorePath, StorePath>();

  constructor(options: StoreCallOptions = {}) {
    this.#options = options;
  }

  /**
   * Returns the outputs of a derivation with these names.
   *
   * @returns undefined for an output that does not exist, or whose path only the build decides
   */
  async outputs(drvPath: StorePath, names: readonly string[]): Promise<(StorePath | undefined)[]> {
    const { outputs } = await this.#read(drvPath);
    return names.map((name) => outputs.get(name)?.path);
  }

  /** Returns the names of all outputs of a derivation. */
  async outputNames(drvPath: StorePath): Promise<string[]> {
    return [...(await this.#read(drvPath)).outputs.keys()];
  }

  /**
   * Returns the inputs of a derivation's build: the outputs of its input derivations, as far as their paths are known.
   */
  async inputs(drvPath: StorePath): Promise<StorePath[]> {
    const { inputDrvs } = await this.#read(drvPath);
    const found = await this.#all([...inputDrvs], ([input, names]) => this.outputs(input, names));
    return [...new Set(found.flat().filter((output) => output !== undefined))];
  }

  /** Returns the inputs for the build of an output that was returned before. Empty for any other path. */
  async inputsOfOutput(path: StorePath): Promise<StorePath[]> {
    const maker = this.#makers.get(path);
    return maker === undefined ? [] : this.inputs(maker);
  }

  /** Reads a derivation. */
  derivation(drvPath: StorePath): Promise<Derivation> {
    return this.#read(drvPath);
  }

  /** Returns all fixed outputs (mostly downloads) that a build from nothing needs. */
  async sources(drvPath: StorePath): Promise<StorePath[]> {
    return [...(await this.sourcesWithMakers(drvPath)).keys()];
  }

  /** Returns all fixed outputs as {@link sources} does, each with the derivation that makes it. */
  async sourcesWithMakers(drvPath: StorePath): Promise<Map<StorePath, StorePath>> {
    const closure = await queryClosure(drvPath, this.#options);
    const drvPaths = closure.filter((path) => path.endsWith('.drv'));
    const found = await this.#all(drvPaths, async (maker) => {
      // Not kept in memory: a system has tens of thousands of derivations.
      const derivation = await (this.#derivations.get(maker) ?? readDerivation(maker, this.#options));
      const path = isFixedOutput(derivation) ? derivation.outputs.get('out')?.path : undefined;
      return path === undefined ? [] : [[path, maker] as const];
    });
    return new Map(found.flat());
  }

  async #read(drvPath: StorePath): Promise<Derivation> {
    const known = this.#derivations.get(drvPath);
    if (known !== undefined) return known;
    const reading = readDerivation(drvPath, this.#options);
    this.#derivations.set(drvPath, reading);
    const derivation = await reading;
    for (const { path } of derivation.outputs.values()) if (path !== undefined) this.#makers.set(path, drvPath);
    return derivation;
  }

  async #all<Item, Value>(items: readonly Item[], read: (item: Item) => Promise<Value>): Promise<Value[]> {
    const queue = new PQueue({ concurrency: CONCURRENCY });
    try {
      return await queue.addAll(items.map((item) => () => read(item)));
    } finally {
      queue.clear(); // one failure makes the rest useless
    }
  }
}
