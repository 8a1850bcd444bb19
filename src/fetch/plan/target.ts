import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { narInfoWithoutNar } from '../../nix/path-info.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { isRemoteStore } from '../../nix/store-place.ts';
import { StoreSession } from '../../nix/programs/store-session.ts';
import type { NarInfoSource } from '../sources/narinfo-sources.ts';

/**
 * The Nix store that is imported into. One process answers for all paths. Its paths and their closures are trusted, so
 * none of them is requested from a cache.
 */
export class Target implements AsyncDisposable {
  readonly #uri: string | undefined;
  readonly #signal: AbortSignal;
  readonly #session: StoreSession;
  /** Paths that were asked for while an answer is pending. They are asked for together. */
  #waiting = new Map<StorePath, PromiseWithResolvers<NarInfo | undefined>>();
  #isAsking = false;

  /** @param uri undefined: this machine's default store */
  constructor(uri: string | undefined, { signal }: { readonly signal: AbortSignal }) {
    this.#uri = uri;
    this.#signal = signal;
    this.#session = StoreSession.open({ store: uri, signal });
  }

  /** True if it answers over a network, path by path. Then it is asked only for paths that no cache has. */
  get isRemote(): boolean {
    return isRemoteStore(this.#uri);
  }

  /**
   * Returns a source of narinfos without NARs, for the paths that the target holds. Never fails: a silent target counts
   * as empty.
   *
   * @param roots the paths of roots that are known completely
   */
  source(roots: readonly StorePath[]): NarInfoSource {
    const paths = new Map(roots.map((path) => [storeHashOf(path), path]));
    return {
      name: this.#uri ?? 'the local store',
      isTarget: true,
      find: async (hash: StoreHash, _signal, named) => {
        const path = named ?? paths.get(hash);
        return path === undefined ? undefined : this.#find(path);
      },
    };
  }

  /** The paths whose NARs can be read out of the target: none if it is reached over a network. Never fails. */
  get dumpable(): {
    readonly uri: string | undefined;
    readonly infos: (paths: readonly StorePath[]) => Promise<NarInfo[]>;
  } {
    return {
      uri: this.#uri,
      infos: async (paths) => (this.isRemote || paths.length === 0 ? [] : this.#describe(paths).catch(() => [])),
    };
  }

  /**
   * Returns the paths that the target does not hold.
   *
   * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words; the signal's reason
   */
  async invalidPaths(paths: readonly StorePath[]): Promise<ReadonlySet<StorePath>> {
    if (paths.length === 0) return new Set();
    try {
      const valid = await this.#session.queryValidPaths(paths);
      return new Set(paths.filter((path) => !valid.has(path)));
    } catch {
      // This Nix may not support serving. Another question may also explain the fault.
      return queryInvalidPaths(paths, this.#uri, { signal: this.#signal });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }

  #find(path: StorePath): Promise<NarInfo | undefined> {
    const known = this.#waiting.get(path);
    if (known !== undefined) return known.promise;
    const asked = Promise.withResolvers<NarInfo | undefined>();
    this.#waiting.set(path, asked);
    if (!this.#isAsking) void this.#answer();
    return asked.promise;
  }

  /** Asks for all waiting paths, until there are none. */
  async #answer(): Promise<void> {
    this.#isAsking = true;
    await Promise.resolve(); // look-ups of one turn are asked together
    while (this.#waiting.size > 0) {
      const batch = this.#waiting;
      this.#waiting = new Map();
      const infos = await this.#describe([...batch.keys()]).catch(() => []);
      const found = new Map(infos.map((info) => [info.storePath, info]));
      for (const [path, { resolve }] of batch) resolve(found.get(path));
    }
    this.#isAsking = false;
  }

  async #describe(paths: readonly StorePath[]): Promise<NarInfo[]> {
    const valid = await this.#session.queryValidPaths(paths);
    if (valid.size === 0) return [];
    const infos = await this.#session.queryPathInfos([...valid]);
    return infos.filter(({ narSize }) => narSize > 0).map(narInfoWithoutNar); // 0 means unknown, for a very old path
  }
}
