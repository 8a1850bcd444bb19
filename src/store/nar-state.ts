import type { NarInfo } from '../nix/narinfo.ts';
import { contentsOf, type Catalogue } from './catalogue.ts';
import type { FileStore } from './file-store.ts';
import { isInQuarantine } from './quarantine.ts';

/**
 * State of the NAR that a narinfo names, as far as it is known without reading it:
 *
 * - `held`: it is the file that was checked
 * - `changed`: a file is there that nobody has read since it changed, or ever
 * - `wrong`: the file has another size, or other contents than were signed
 * - `gone`: it was here, and is not any more
 * - `never`: it is not here and never was; the target held it when it was fetched
 */
export type NarState = 'held' | 'changed' | 'wrong' | 'gone' | 'never';

/** Finds out the state of a NAR. @throws STORE_UNWRITABLE for a file that may not be looked at */
export async function narStateOf(store: FileStore, catalogue: Catalogue, info: NarInfo): Promise<NarState> {
  const file = await store.statNar(info);
  const isListed = catalogue.byStorePath(info.storePath)?.fileHash === info.fileHash && info.fileHash !== undefined;
  if (file === undefined) return isListed || (await isInQuarantine(store, info.url)) ? 'gone' : 'never';
  if (info.fileSize !== undefined && info.fileSize !== file.sizeBytes) return 'wrong';
  const entry = catalogue.knows(info, file);
  if (entry === undefined) return 'changed';
  return contentsOf(entry, info) === 'wrong' ? 'wrong' : 'held';
}
