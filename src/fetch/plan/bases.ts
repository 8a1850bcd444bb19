import type { Base } from '../../delta/apply.ts';
import type { Delta } from '../../delta/record.ts';
import type { StorePath } from '../../nix/brands.ts';
import { dumpNars } from '../../nix/programs/nar-dump.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf, storePathFromBaseName } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { readContents } from '../../store/hashing/nar-contents.ts';
import type { Target } from './target.ts';

/** A base that is here. */
export interface FoundBase {
  /** `nix`: in the Nix store; else the compression of its file in the file store. */
  readonly from: 'nix' | { readonly compression: string };
  /** Begins to read its NAR. */
  readonly open: (signal: AbortSignal) => Base;
}

/** Where bases are looked for. */
export interface BasePlaces {
  readonly store: FileStore;
  /** The Nix store that is imported into. Undefined: no Nix store is asked. */
  readonly target: Pick<Target, 'dumpable'> | undefined;
}

/**
 * Finds the bases of patches: in the Nix store, which gives them without decompressing, or in the file store. A path
 * counts as the base only if its narinfo there has the named NarHash.
 *
 * @returns the base of each delta that is here
 */
export async function findBases(
  deltas: readonly Delta[],
  { store, target }: BasePlaces,
): Promise<Map<Delta, FoundBase>> {
  const found = new Map<Delta, FoundBase>();
  const pathOf = ({ baseName }: Delta): StorePath => storePathFromBaseName(baseName, store.storeDir);
  const valid = new Map<StorePath, NarInfo>();
  const asked = [...new Set(deltas.map(pathOf))];
  for (const info of (await target?.dumpable.infos(asked)) ?? []) valid.set(info.storePath, info);
  for (const delta of deltas) {
    const storePath = pathOf(delta);
    const { narSize } = valid.get(storePath) ?? {};
    if (narSize !== undefined && isBase(valid.get(storePath), delta)) {
      const uri = target?.dumpable.uri;
      found.set(delta, {
        from: 'nix',
        open: (signal) => ({ narSize, nar: dumpOf({ storePath, narSize }, uri, signal) }),
      });
      continue;
    }
    const info = await store.readNarInfo(storeHashOf(storePath)).catch(() => undefined);
    if (info === undefined || !isBase(info, delta) || (await store.statNar(info)) === undefined) continue;
    const { compression } = info;
    const open = (signal: AbortSignal): Base => ({
      narSize: info.narSize,
      nar: readContents(store.narPath(info), compression, info.narSize, signal),
    });
    found.set(delta, { from: { compression }, open });
  }
  return found;
}

function isBase(info: NarInfo | undefined, { baseNarHash, baseNarSize }: Delta): boolean {
  return info?.narHash === baseNarHash && info.narSize === baseNarSize;
}

async function* dumpOf(
  path: { readonly storePath: StorePath; readonly narSize: number },
  store: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  for await (const { nar } of dumpNars([path], { store, signal })) yield* nar;
}
