import { isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { Catalogue } from '../../store/catalogue/catalogue.ts';
import { FileStore } from '../../store/file-store.ts';
import { NixNars } from '../../store/in-nix/nix-nars.ts';
import type { PartialSession } from '../../store/session.ts';
import { eachAtEncoders } from '../../store/export/write-nar.ts';
import { pathsOf, type Closure } from '../walk/closure.ts';
import { writeMadeNar } from './made-nar.ts';
import { namedFile } from './named-file.ts';
import type { Target } from './target.ts';

/** The means of writing released NARs again. */
export interface ReleasedMeans {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Tells which NARs are needed. Undefined: all. */
  readonly target: Pick<Target, 'invalidPaths'> | undefined;
  readonly signal: AbortSignal;
}

/**
 * NARs whose files the store has released, since the Nix store of this machine has their paths. Where the file itself
 * is needed, it is written again from there, and nothing is downloaded.
 */
export class ReleasedNars {
  readonly #nars = new NixNars();
  readonly #paths: ReadonlySet<StorePath>;

  private constructor(paths: ReadonlySet<StorePath>) {
    this.#paths = paths;
  }

  /** Reads the catalogue of a store. @throws STORE_UNWRITABLE */
  static async open(store: FileStore): Promise<ReleasedNars> {
    const paths = new Set<StorePath>();
    for (const { storePath, isInNix } of (await Catalogue.open(store)).entries())
      if (isInNix === true) paths.add(storePath);
    return new ReleasedNars(paths);
  }

  /** Returns true if a NAR can probably be written again. */
  has(path: StorePath): boolean {
    return this.#paths.has(path) && this.#nars.changedAtMs(path) !== undefined;
  }

  /**
   * Writes the needed NARs of a closure. Leaves out those that the Nix store no longer gives with the signed contents: they
   * are fetched as any other.
   *
   * @returns the narinfos of the written ones, each with its file
   * @throws STORE_FULL, STORE_UNWRITABLE; NIX_MISSING, NIX_FAILED; the signal's reason
   */
  async write(closure: Closure, means: ReleasedMeans): Promise<Map<StoreHash, NarInfo>> {
    const written = new Map<StoreHash, NarInfo>();
    const needed = await this.needed(closure, means);
    await eachAtEncoders(needed, means.signal, async (info, signal) => {
      const made = await this.#write(info, { ...means, signal });
      if (made !== undefined) written.set(storeHashOf(info.storePath), made);
    });
    return written;
  }

  /** Returns the narinfos of a closure whose NARs are needed and can probably be written again. */
  async needed(closure: Closure, { store, target }: Pick<ReleasedMeans, 'store' | 'target'>): Promise<NarInfo[]> {
    const here = new Map([...closure].filter(([, { storePath }]) => this.has(storePath)));
    if (here.size === 0) return [];
    const needed = await target?.invalidPaths(pathsOf(here));
    return [...here.values()].filter((info) => needed?.has(info.storePath) !== false && !isHeld(info, store));
  }

  async #write(info: NarInfo, { store, session, signal }: ReleasedMeans): Promise<NarInfo | undefined> {
    const changedAtMs = this.#nars.changedAtMs(info.storePath);
    const reader = changedAtMs === undefined ? undefined : await this.#nars.reader(info.storePath, changedAtMs);
    if (reader === undefined || reader.map.narSize !== info.narSize) return undefined;
    try {
      return (await writeMadeNar(reader.all(), info, { store, session, signal }))?.info;
    } catch (error) {
      if (signal.aborted || isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw error;
      return undefined; // it has changed meanwhile
    } finally {
      this.#nars.forget(info.storePath);
    }
  }
}

function isHeld(info: NarInfo, store: FileStore): boolean {
  const file = namedFile(info);
  if (file === undefined) return false;
  const url = FileStore.narUrl(file.fileHash, file.extension);
  return store.statNarNow({ url, storePath: info.storePath }) !== undefined;
}
