import type { StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { isOfSameContents, type ValidPath } from '../../nix/valid-path.ts';
import type { Claimed } from '../claims.ts';
import type { FileStore } from '../file-store.ts';

/** The work of an addition. */
export interface AdditionPlan {
  /** The whole closure, references first. */
  readonly closure: readonly ValidPath[];
  /** Paths to export, since the file store lacks their narinfo or their NAR. */
  readonly missing: readonly ValidPath[];
  /** Narinfos without a NAR here, with the same contents as a path of `missing`: their signatures are kept. */
  readonly bare: ReadonlyMap<StorePath, NarInfo>;
  /** Narinfos with a NAR here, with the same contents as in the machine's store. */
  readonly held: readonly NarInfo[];
  /** Paths of which the file store has another build. They are not changed. */
  readonly others: readonly StorePath[];
}

/**
 * Divides the paths of a closure into those that the file store has and those that it lacks. Writes nothing.
 *
 * @param store undefined if there is none yet
 * @throws STORE_UNWRITABLE if it cannot be read
 */
export async function planAddition(
  closure: Claimed<readonly ValidPath[]>,
  store: FileStore | undefined,
): Promise<AdditionPlan> {
  const missing: ValidPath[] = [];
  const bare = new Map<StorePath, NarInfo>();
  const held: NarInfo[] = [];
  const others: StorePath[] = [];
  const present = new Set(await store?.listStoreHashes());
  for (const path of closure) {
    const { storePath } = path;
    const info = present.has(storeHashOf(storePath)) ? await store?.readNarInfoOf(storePath) : undefined;
    const isSame = info !== undefined && isOfSameContents(info, path);
    if (info === undefined || !(await hasNar(info, store))) {
      missing.push(path);
      if (isSame) bare.set(storePath, info);
    } else if (isSame) held.push(info);
    else others.push(storePath);
  }
  return { closure, missing, bare, held, others };
}

async function hasNar(info: NarInfo, store: FileStore | undefined): Promise<boolean> {
  const { fileHash, fileSize } = info;
  if (fileHash === undefined || fileSize === undefined) return false; // such a NAR can be neither checked nor published
  return (await store?.narSizeOf(info)) === fileSize;
}
