/** Tells which paths of a rebuild are on this machine: in its Nix store, or in its file store. */
import type { StorePath } from '../nix/brands.ts';
import { queryBuiltHere } from '../nix/programs/nix-queries.ts';
import type { StoreCallOptions } from '../nix/programs/run-nix.ts';
import { StoreSession } from '../nix/programs/store-session.ts';
import { storeHashOf, storePathFromBaseName } from '../nix/store-path.ts';
import { Catalogue } from '../store/catalogue/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import { narStateOf } from '../store/catalogue/nar-state.ts';

/**
 * `valid` in the Nix store, which implies its closure; `stored` in the file store, with the paths that the Nix store
 * lacks.
 */
type Place = 'valid' | 'stored' | 'absent';

export interface HereOptions extends StoreCallOptions {
  /** The file store. Undefined: there is none. */
  readonly files: FileStore | undefined;
  /** True if paths that only the file store holds count, too: Nix can get them from it without any network. */
  readonly countsStored: boolean;
}

/** Remembers where paths are. Ask for paths with {@link look} first: many in one question. */
export class Here implements AsyncDisposable {
  readonly #options: HereOptions;
  readonly #places = new Map<StorePath, Place>();
  /** The paths that were asked for. */
  readonly #asked = new Set<StorePath>();
  /** True for valid paths that were built here. */
  readonly #builtHere = new Map<StorePath, boolean>();
  readonly #catalogue: Catalogue | undefined;
  /** Opened by the first question: two Nix that create one store at the same time fail, so none starts beside another. */
  #nixStore: StoreSession | undefined;

  private constructor(options: HereOptions, catalogue: Catalogue | undefined) {
    this.#options = options;
    this.#catalogue = catalogue;
  }

  /** @throws STORE_UNWRITABLE */
  static async open(options: HereOptions): Promise<Here> {
    return new Here(options, options.files && (await Catalogue.open(options.files)));
  }

  /** Finds out where paths are. @throws NIX_MISSING, NIX_FAILED; STORE_UNWRITABLE; the signal's reason */
  async look(paths: readonly StorePath[]): Promise<void> {
    for (const path of paths) this.#asked.add(path);
    const unknown = await this.#findValid([...new Set(paths)].filter((path) => !this.#places.has(path)));
    for (const path of unknown) {
      this.#options.signal?.throwIfAborted();
      this.#places.set(path, (await this.#isStored(path)) ? 'stored' : 'absent');
    }
  }

  /** Returns true if a path counts as here. */
  has(path: StorePath): boolean {
    const place = this.#places.get(path);
    return place === 'valid' || (place === 'stored' && this.#options.countsStored);
  }

  isValid(path: StorePath): boolean {
    return this.#places.get(path) === 'valid';
  }

  /** Returns true if only the file store holds a path. */
  isOnlyStored(path: StorePath): boolean {
    return this.#places.get(path) === 'stored';
  }

  /** Number of the paths asked for that only the file store holds. */
  get storedCount(): number {
    return [...this.#asked].filter((path) => this.isOnlyStored(path)).length;
  }

  /**
   * Finds out which of these paths, among the valid ones, this machine has built itself instead of copying them. Starts
   * Nix, so ask for many at once.
   */
  async builtHere(paths: Iterable<StorePath>): Promise<(path: StorePath) => boolean> {
    const unknown = [...new Set(paths)].filter((path) => this.isValid(path) && !this.#builtHere.has(path));
    const built = unknown.length === 0 ? new Set() : await queryBuiltHere(unknown, this.#options);
    for (const path of unknown) this.#builtHere.set(path, built.has(path));
    return (path) => this.#builtHere.get(path) === true;
  }

  /** Forgets absent paths, since some were fetched. */
  forgetAbsent(): void {
    for (const [path, place] of this.#places) if (place !== 'valid') this.#places.delete(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#nixStore?.[Symbol.asyncDispose]();
  }

  /** Records the valid ones of these paths. Returns the others. */
  async #findValid(paths: readonly StorePath[]): Promise<StorePath[]> {
    if (paths.length === 0) return [];
    this.#nixStore ??= StoreSession.open(this.#options);
    const valid = await this.#nixStore.queryValidPaths(paths);
    for (const path of valid) this.#places.set(path, 'valid');
    return paths.filter((path) => !valid.has(path));
  }

  /** Returns true if the file store has the NARs of a closure, except for those of valid paths. */
  async #isStored(root: StorePath): Promise<boolean> {
    const { files } = this.#options;
    const closure = new Set([root]);
    if (files === undefined || this.#catalogue === undefined) return false;
    for (const path of closure) {
      const place = this.#places.get(path);
      if (place === 'absent') return false;
      if (place !== undefined) continue;
      const info = await files.readNarInfo(storeHashOf(path)).catch(() => undefined); // damaged: verify reports it
      const held =
        info?.storePath === path && (await narStateOf(files, this.#catalogue, info)) === 'held' ? info : undefined;
      if (held !== undefined)
        for (const name of held.references) closure.add(storePathFromBaseName(name, files.storeDir));
      else if ((await this.#findValid([path])).length > 0) return false;
    }
    for (const path of closure) if (!this.isValid(path)) this.#places.set(path, 'stored');
    return true;
  }
}
