import { readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../disk/make-folder.ts';
import { stateOfOwner } from '../disk/owner.ts';
import { storeError } from '../disk/store-error.ts';
import type { StoreHash } from '../nix/brands.ts';
import { formatCacheInfo } from '../nix/cache-info.ts';
import { formatNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { FileStore } from './file-store.ts';
import { PartialSession } from './session.ts';
import { inState } from './state-folder.ts';

/** Folder of decoded NARs. */
const DECODED = 'decoded';

/**
 * A binary cache from which Nix imports while other NARs are arriving: `narswarm/import/<owner>/`. It has the narinfos of
 * NARs that are in the file store, before the store itself has them: that takes a sync of the disk. Some NARs are decoded,
 * since older versions of Nix decode one after another. Nothing else reads it.
 */
export class ImportFolder implements AsyncDisposable {
  readonly #session: PartialSession;

  private constructor(session: PartialSession) {
    this.#session = session;
  }

  /** Makes the folder, and removes those of ended processes. @throws STORE_FULL, STORE_UNWRITABLE */
  static async open(store: FileStore): Promise<ImportFolder> {
    const folder = new ImportFolder(await PartialSession.open(store, 'import'));
    try {
      await folder.#clear();
      await makeFolder(join(folder.dir, DECODED));
      await symlink(join(store.dir, 'nar'), join(folder.dir, 'nar'));
      const info = formatCacheInfo({ storeDir: store.storeDir, wantMassQuery: true, priority: 0 });
      await writeFile(join(folder.dir, 'nix-cache-info'), info);
      return folder;
    } catch (error) {
      await folder[Symbol.asyncDispose]();
      throw storeError(error, folder.dir);
    }
  }

  get dir(): string {
    return this.#session.dir;
  }

  /** Returns the place for the decoded NAR of a path. */
  decodedPath(path: Pick<NarInfo, 'storePath'>): string {
    return join(this.dir, decodedUrl(storeHashOf(path.storePath)));
  }

  /** Lets Nix decode a NAR. @param info with the store's name of the NAR */
  async addEncoded(info: NarInfo): Promise<void> {
    await this.#write(info);
  }

  /** Lets Nix take a NAR from {@link decodedPath}. @throws if it does not have NarSize bytes */
  async addDecoded({ fileHash: _hash, fileSize: _size, ...info }: NarInfo): Promise<void> {
    const { size } = await stat(this.decodedPath(info));
    if (size !== info.narSize) throw new Error(`it has ${size} bytes, not ${info.narSize}`);
    await this.#write({ ...info, url: decodedUrl(storeHashOf(info.storePath)), compression: 'none' });
  }

  /** Removes paths with their decoded NARs. */
  async remove(infos: readonly Pick<NarInfo, 'storePath'>[]): Promise<void> {
    for (const info of infos) {
      await rm(this.decodedPath(info), { force: true });
      await rm(join(this.dir, `${storeHashOf(info.storePath)}.narinfo`), { force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clear().catch(() => undefined); // the next import removes it
    await this.#session[Symbol.asyncDispose]();
  }

  async #write(info: NarInfo): Promise<void> {
    await writeFile(join(this.dir, `${storeHashOf(info.storePath)}.narinfo`), formatNarInfo(info));
  }

  async #clear(): Promise<void> {
    for (const name of await readdir(this.dir)) await rm(join(this.dir, name), { recursive: true, force: true });
  }
}

/**
 * Returns true if a process ended in the middle of an import. Then the store may have NARs of imported paths whose
 * narinfos were not written yet.
 */
export async function hasInterruptedImport(store: Pick<FileStore, 'stateDir'>): Promise<boolean> {
  for (const name of await readdir(inState(store, 'import')).catch(() => []))
    if ((await stateOfOwner(name)) === 'gone') return true;
  return false;
}

function decodedUrl(hash: StoreHash): string {
  return `${DECODED}/${hash}.nar`;
}
