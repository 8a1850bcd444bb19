import type { StorePath } from '../../nix/brands.ts';
import type { Catalogue } from '../../store/catalogue/catalogue.ts';
import type { Claimed } from '../../store/claims.ts';
import { FileStore } from '../../store/file-store.ts';
import { narStateOf } from '../../store/catalogue/nar-state.ts';
import { extensionOf } from '../../torrent/canonical.ts';
import type { Closure } from '../walk/closure.ts';

/** Paths that are checked at the same time. Each check is a stat. */
const CHUNK = 64;

/**
 * Returns the paths that the target holds, but whose NAR the file store has lost or may hold damaged. Peers and
 * rebuilds without internet rely on these NARs.
 *
 * @param needed paths that the target lacks. Undefined: the whole closure
 */
export async function lostOf(
  closure: Claimed<Closure>,
  needed: ReadonlySet<StorePath> | undefined,
  { store, catalogue }: { readonly store: FileStore; readonly catalogue: Catalogue },
): Promise<Set<StorePath>> {
  const lost = new Set<StorePath>();
  if (needed === undefined) return lost;
  const infos = [...closure.values()].filter(({ storePath }) => !needed.has(storePath));
  for (let at = 0; at < infos.length; at += CHUNK) {
    await Promise.all(
      infos.slice(at, at + CHUNK).map(async (info) => {
        const { fileHash, compression, storePath } = info;
        if (fileHash === undefined) return;
        const own = { ...info, url: FileStore.narUrl(fileHash, extensionOf(compression)) };
        const state = await narStateOf(store, catalogue, own);
        if (state !== 'held' && state !== 'never') lost.add(storePath);
      }),
    );
  }
  return lost;
}
