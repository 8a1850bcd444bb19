import PQueue from 'p-queue';
import type { StorePath } from '../nix/brands.ts';
import { type Derivation, isFixedOutput } from '../nix/derivation.ts';
import { queryClosure, type StoreCallOptions } from '../nix/nix-cli.ts';
import { readDerivation } from '../nix/read-derivation.ts';

/** Files that are read at once; where each costs a process, two cores have enough to do. */
const CONCURRENCY = 4;

/**
 * What it takes to build something, out of the .drv files of a store: read as they are asked for, each once.
 * Failures are those of {@link readDerivation}.
 */
export class BuildGraph {
  readonly #options: StoreCallOptions;
  readonly #derivations = new Map<StorePath, Promise<Derivation>>();
  /** Which derivation makes a path, of those that were read. */
  readonly #makers = new Map<StorePath, StorePath>();

  constructor(options: StoreCallOptions = {}) {
    this.#options = options;
  }

  /**
   * The outputs of a derivation with these names.
   *
   * @returns a path is undefined where the derivation has no such output, or only the build tells where it lies
   */
  async outputs(drvPath: StorePath, names: readonly string[]): Promise<(StorePath | undefined)[]> {
    const { outputs } = await this.#read(drvPath);
    return names.map((name) => outputs.get(name)?.path);
  }

  /** Names of all outputs of a derivation. */
  async outputNames(drvPath: StorePath): Promise<string[]> {
    return [...(await this.#read(drvPath)).outputs.keys()];
  }

  /** What a build of a derivation takes: the outputs of its inputs, as far as it is known where they lie. */
  async inputs(drvPath: StorePath): Promise<StorePath[]> {
    const { inputDrvs } = await this.#read(drvPath);
    const found = await this.#all([...inputDrvs], ([input, names]) => this.outputs(input, names));
    return [...new Set(found.flat().filter((output) => output !== undefined))];
  }

  /** The same for an output of a derivation that was asked for here, also as an input; empty for any other path. */
  async inputsOfOutput(path: StorePath): Promise<StorePath[]> {
    const maker = this.#makers.get(path);
    return maker === undefined ? [] : this.inputs(maker);
  }

  /** The fixed outputs (what is downloaded, mostly) of everything that a build from nothing takes. */
  async sources(drvPath: StorePath): Promise<StorePath[]> {
    const closure = await queryClosure(drvPath, this.#options);
    const drvPaths = closure.filter((path) => path.endsWith('.drv'));
    const found = await this.#all(drvPaths, async (path) => {
      // Not remembered: those of a system are tens of thousands.
      const derivation = await (this.#derivations.get(path) ?? readDerivation(path, this.#options));
      return isFixedOutput(derivation) ? derivation.outputs.get('out')?.path : undefined;
    });
    return [...new Set(found.filter((output) => output !== undefined))];
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
      queue.clear(); // one has failed: the rest is of no use
    }
  }
}
