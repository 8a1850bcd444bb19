import { statSync } from 'node:fs';
import type { FileHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import { tailOf, type Catalogue } from '../store/catalogue/catalogue.ts';
import { contentsOf, isInNixAs, type CatalogueEntry } from '../store/catalogue/catalogue-entry.ts';
import { FileStore } from '../store/file-store.ts';
import type { NixNars } from '../store/in-nix/nix-nars.ts';
import { withinMs } from '../within.ts';
import { CHECK_PATIENCE_MS } from './gate.ts';
import type { NarChecker } from './nar-checker.ts';

/** A NAR file that can be given, as it was when it was checked. */
export interface FileHere {
  /** Absolute path. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly mtimeMs: number;
}

export interface NarsHereOptions {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly nixNars: NixNars;
  /** Reads files and paths that have changed since they were read. Undefined: these are not here. */
  readonly checker?: Pick<NarChecker, 'check'> | undefined;
}

/**
 * Decides whether the NAR of a narinfo can be given now: a narinfo is worth nothing to others without it. Looks at the
 * file, or at the path in the Nix store, at each question: one stat, and nothing has to be watched. Decides nothing
 * about who may have it.
 */
export class NarsHere {
  readonly #options: NarsHereOptions;

  constructor(options: NarsHereOptions) {
    this.#options = options;
  }

  /** Returns true if the NAR of a narinfo is a file of the store, or can be read from the Nix store. Never throws. */
  async has(info: NarInfo): Promise<boolean> {
    return (await this.inNix(info)) !== undefined || (await this.file(info)) !== undefined;
  }

  /**
   * Returns the entry of a NAR that can be read from the Nix store. A path that has changed since it was hashed is hashed
   * again: Nix may have made it again, or merged its links. Never throws.
   */
  async inNix(info: NarInfo): Promise<CatalogueEntry | undefined> {
    const { catalogue, nixNars } = this.#options;
    const entry = catalogue.byStorePath(info.storePath);
    if (entry === undefined || !isInNixAs(entry, info)) return undefined;
    const changedAtMs = nixNars.changedAtMs(info.storePath);
    if (changedAtMs === undefined) return undefined; // Nix has collected it
    if (changedAtMs === entry.mtimeMs) return entry;
    const checked = await this.#check(entry, info);
    return checked && isInNixAs(checked, info) ? checked : undefined;
  }

  /**
   * Returns the file of a narinfo. Undefined if it is gone, or is not the file that the narinfo names. A file that has
   * changed since it was read is read again. One that was never read counts as right, since its
   * receivers check it. Never throws.
   *
   * @param url its place in the store. Default: as the narinfo says
   */
  async file(info: NarInfo, url = info.url): Promise<FileHere | undefined> {
    const { catalogue } = this.#options;
    const { storePath, fileHash, fileSize } = info;
    const file = isWithoutNar(info) ? undefined : this.#look({ url, storePath });
    if (file === undefined || (fileSize !== undefined && file.sizeBytes !== fileSize)) return undefined;
    const listed = (): CatalogueEntry | undefined => {
      const entry = catalogue.byStorePath(storePath);
      return entry === undefined || entry.fileHash !== fileHash || entry.isInNix === true ? undefined : entry;
    };
    const isSame = (entry: CatalogueEntry | undefined): boolean =>
      entry !== undefined && contentsOf(entry, info) !== 'wrong' && entry.mtimeMs === file.mtimeMs;
    if (isSame(listed())) return file;
    await this.#refresh();
    const entry = listed();
    if (entry === undefined) return file;
    return isSame(entry.mtimeMs === file.mtimeMs ? entry : await this.#check(entry, info)) ? file : undefined;
  }

  /**
   * Returns a file by its name alone. Undefined if it is gone, or has changed since it was read. Never throws.
   *
   * @param extension of its name: `xz`, `zst`, or empty
   */
  async named(fileHash: FileHash, extension: string): Promise<FileHere | undefined> {
    const found = lookAt(`${this.#options.store.dir}/${FileStore.narUrl(fileHash, extension)}`);
    if (found === undefined) return undefined;
    const listed = (): CatalogueEntry[] =>
      this.#options.catalogue
        .byTail(tailOf(fileHash))
        .filter((entry) => entry.fileHash === fileHash && entry.isInNix !== true);
    const isSame = ({ sizeBytes, mtimeMs }: CatalogueEntry): boolean =>
      sizeBytes === found.sizeBytes && mtimeMs === found.mtimeMs;
    if (listed().some(isSame)) return found;
    await this.#refresh();
    const entries = listed();
    return entries.length === 0 || entries.some(isSame) ? found : undefined;
  }

  /** Reads what other processes have added to the catalogue a moment ago. */
  async #refresh(): Promise<void> {
    await this.#options.catalogue.refresh().catch(() => undefined);
  }

  #look(info: Pick<NarInfo, 'url' | 'storePath'>): FileHere | undefined {
    try {
      return lookAt(this.#options.store.narPath(info));
    } catch {
      return undefined; // its URL leads out of the store
    }
  }

  async #check(entry: CatalogueEntry, info: NarInfo): Promise<CatalogueEntry | undefined> {
    const check = this.#options.checker?.check(entry, info, 'now');
    return check && withinMs(CHECK_PATIENCE_MS, check).catch(() => undefined);
  }
}

/** Looks at a file, synchronously: the system has the answer in memory. */
function lookAt(path: string): FileHere | undefined {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    return found?.isFile() === true ? { path, sizeBytes: found.size, mtimeMs: Math.floor(found.mtimeMs) } : undefined;
  } catch {
    return undefined; // it may not be looked at
  }
}
