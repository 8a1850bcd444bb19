import type { NarInfo } from '../../nix/narinfo.ts';
import type { Catalogue } from './catalogue.ts';
import { contentsOf } from './catalogue-entry.ts';
import type { FileStore } from '../file-store.ts';
import { isInQuarantine } from '../quarantine.ts';

/**
 * The state of a narinfo's NAR, as far as it is known without reading it:
 *
 * - `held`: it is the file that was checked
 * - `changed`: the file has never been read, or not since it changed
 * - `wrong`: the file has another size, or other contents than the signed ones
 * - `gone`: the file was here and is missing
 * - `never`: the file was never here; the target held the path at the time of the fetch. Or it was released, since the
 *   Nix store of this machine has the path
 */
export type NarState = 'held' | 'changed' | 'wrong' | 'gone' | 'never';

/** Determines the state of a NAR. @throws STORE_UNWRITABLE if the file may not be looked at */
export async function narStateOf(store: FileStore, catalogue: Catalogue, info: NarInfo): Promise<NarState> {
  const file = await store.statNar(info);
  const listed = catalogue.byStorePath(info.storePath);
  const isListed = listed?.isInNix !== true && listed?.fileHash === info.fileHash && info.fileHash !== undefined;
  if (file === undefined) return isListed || (await isInQuarantine(store, info.url)) ? 'gone' : 'never';
  if (info.fileSize !== undefined && info.fileSize !== file.sizeBytes) return 'wrong';
  const entry = catalogue.knows(info, file);
  if (entry === undefined) return 'changed';
  return contentsOf(entry, info) === 'wrong' ? 'wrong' : 'held';
}
