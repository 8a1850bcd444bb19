/** Finds derivations among the .drv files that evaluations have left on this machine. */
import { readdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { StorePath } from '../brands.ts';
import { DerivationHasher } from './derivation-hash.ts';
import { isFloatingOutput, parseDerivation, type Derivation } from './derivation.ts';
import { physicalPath } from '../store-place.ts';
import { baseNameOf, storePathFromBaseName } from '../store-path.ts';

/** Limit on derivations of one name that are read. An expression has about as many versions. */
const MAX_NAMESAKES = 32;

/** The derivations on this machine's disk. Never fails: unreadable ones count as absent. */
export class LocalDerivations {
  readonly #storeDir: string;
  readonly #store: string;
  readonly #hasher = new DerivationHasher((path) => this.#read(path));
  #names: Promise<Map<string, string[]>> | undefined;

  /** @param store URI of the Nix store of the .drv files. Default: NIX_REMOTE of the environment */
  constructor(storeDir: string, store: string = process.env['NIX_REMOTE'] ?? '') {
    this.#storeDir = storeDir;
    this.#store = store;
  }

  /** Reads a .drv file by its base name. */
  async find(baseName: string): Promise<Derivation | undefined> {
    return this.#unlessUnread(this.#read(storePathFromBaseName(baseName, this.#storeDir)));
  }

  /**
   * Returns base names of the derivations with this name (without `.drv`) for which only the build decides this
   * output's path.
   */
  async floating(name: string, outputName: string): Promise<string[]> {
    this.#names ??= this.#list();
    const files: string[] = [];
    for (const file of (await this.#names).get(name)?.slice(0, MAX_NAMESAKES) ?? []) {
      const derivation = await this.find(file);
      if (derivation !== undefined && isFloatingOutput(derivation, outputName)) files.push(file);
    }
    return files;
  }

  /** Returns the hashes that name realisations of {@link floating} derivations. */
  async hashesOf(name: string, outputName: string): Promise<string[]> {
    const hashes = (await this.floating(name, outputName)).map((file) => this.hashOf(file));
    return (await Promise.all(hashes)).filter((hash) => hash !== undefined);
  }

  /**
   * Returns the hash that names realisations of a derivation. Undefined if the derivation or one of its inputs is not
   * here.
   */
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
    return read.catch(() => undefined); // absent, unreadable, or written by a later Nix
  }
}
