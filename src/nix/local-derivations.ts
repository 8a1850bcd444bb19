/** Finds derivations among the .drv files of this machine, where an evaluation has left them. */
import { readdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { StorePath } from './brands.ts';
import { DerivationHasher } from './derivation-hash.ts';
import { isFloatingOutput, parseDerivation, type Derivation } from './derivation.ts';
import { physicalPath } from './read-derivation.ts';
import { baseNameOf, storePathFromBaseName } from './store-path.ts';

/** Derivations of one name that are looked at: as many as there are versions of an expression. */
const MAX_NAMESAKES = 32;

/** The derivations that lie on this machine's disk. Never fails: what cannot be read is not there. */
export class LocalDerivations {
  readonly #storeDir: string;
  readonly #store: string;
  readonly #hasher = new DerivationHasher((path) => this.#read(path));
  #names: Promise<Map<string, string[]>> | undefined;

  /** @param store URI of the Nix store that .drv files are in. Default: that of the environment */
  constructor(storeDir: string, store: string = process.env['NIX_REMOTE'] ?? '') {
    this.#storeDir = storeDir;
    this.#store = store;
  }

  /** Reads a .drv file by its base name. */
  async find(baseName: string): Promise<Derivation | undefined> {
    return this.#unlessUnread(this.#read(storePathFromBaseName(baseName, this.#storeDir)));
  }

  /** Base names of the derivations of this name (without `.drv`) with such an output, of which only the build tells. */
  async floating(name: string, outputName: string): Promise<string[]> {
    this.#names ??= this.#list();
    const files: string[] = [];
    for (const file of (await this.#names).get(name)?.slice(0, MAX_NAMESAKES) ?? []) {
      const derivation = await this.find(file);
      if (derivation !== undefined && isFloatingOutput(derivation, outputName)) files.push(file);
    }
    return files;
  }

  /** The hashes that name realisations of the outputs of {@link floating} derivations. */
  async hashesOf(name: string, outputName: string): Promise<string[]> {
    const hashes = (await this.floating(name, outputName)).map((file) => this.hashOf(file));
    return (await Promise.all(hashes)).filter((hash) => hash !== undefined);
  }

  /** The hash that names realisations of a derivation's outputs. Undefined if it, or one that it needs, is not here. */
  async hashOf(baseName: string): Promise<string | undefined> {
    const derivation = await this.find(baseName);
    return derivation === undefined ? undefined : this.#unlessUnread(this.#hasher.outputHash(derivation));
  }

  async #list(): Promise<Map<string, string[]>> {
    const example = storePathFromBaseName(`${'0'.repeat(32)}-x`, this.#storeDir);
    const folder = physicalPath(example, this.#store);
    const names = folder === undefined ? [] : await readdir(dirname(folder)).catch(() => []);
    return Map.groupBy(
      names.filter((name) => name.endsWith('.drv')),
      (name) => name.slice(33, -'.drv'.length),
    );
  }

  async #read(path: StorePath): Promise<Derivation> {
    const file = physicalPath(path, this.#store);
    if (file === undefined) throw new Error(`${baseNameOf(path)} is not on this machine`);
    return parseDerivation(await readFile(file, 'utf8'));
  }

  async #unlessUnread<T>(read: Promise<T>): Promise<T | undefined> {
    return read.catch(() => undefined); // it is not there, may not be read, or is of a later Nix
  }
}
