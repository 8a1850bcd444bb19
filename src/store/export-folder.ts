import { copyFile, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../disk/make-folder.ts';
import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { exportPaths, type Compression } from '../nix/nix-copy.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { ValidPath } from '../nix/valid-path.ts';
import { extensionOf, narTorrent, type NarTorrent } from '../torrent/canonical.ts';
import { claim, type Claimed } from './claims.ts';
import { FileStore } from './file-store.ts';
import { isSameNar } from './hash-nar.ts';
import { hashNars } from './hash-pool.ts';
import { PartialSession } from './session.ts';
import { storeError } from '../disk/store-error.ts';

/** An exported NAR in its place. */
export interface ExportedNar {
  /** The narinfo that Nix wrote, with the file store's name of the NAR. The file store does not have it yet. */
  readonly info: NarInfo;
  readonly torrent: NarTorrent;
  /** Time of the file's last change, in whole milliseconds. */
  readonly mtimeMs: number;
}

/**
 * The folder into which Nix exports for one process: `narswarm/export/<owner>/`, a binary cache of its own. If this
 * process is killed, Nix may continue to write there. That reaches no store, and the next export removes it.
 */
export class ExportFolder implements AsyncDisposable {
  readonly #session: PartialSession;
  readonly #store: FileStore;

  private constructor(session: PartialSession, store: FileStore) {
    this.#session = session;
    this.#store = store;
  }

  /** Makes the folder, and removes those of ended processes. @throws STORE_FULL, STORE_UNWRITABLE */
  static async open(store: FileStore): Promise<ExportFolder> {
    const folder = new ExportFolder(await PartialSession.open(store, 'export'), store);
    await folder.#clear(); // inherited files may be incomplete
    return folder;
  }

  /** Protects these paths from the garbage collector until the folder is disposed of. @throws as {@link claim} */
  claim(paths: readonly ValidPath[], signal: AbortSignal): Promise<Claimed<readonly ValidPath[]>> {
    const claims = paths.map(({ storePath }) => ({ storeHash: storeHashOf(storePath) }));
    return claim(paths, claims, { store: this.#store, session: this.#session, signal });
  }

  /**
   * Exports paths and moves their NARs into the store.
   *
   * @param paths their references are among them or have narinfos in the store
   * @throws as {@link exportPaths}; STORE_CORRUPT if a NAR is not what Nix wrote
   */
  async export(
    paths: readonly ValidPath[],
    options: { compression: Compression; signal: AbortSignal; onNixLine: (line: string) => void },
  ): Promise<ExportedNar[]> {
    const { compression, signal, onNixLine } = options;
    const to = this.#session.path('cache');
    const temporaryDir = this.#session.path('tmp');
    try {
      await makeFolder(to);
      await makeFolder(temporaryDir);
      await this.#copyNarInfosOfReferences(paths, to);
    } catch (error) {
      throw storeError(error, to);
    }
    const storePaths = paths.map(({ storePath }) => storePath);
    await exportPaths({ paths, to, compression, temporaryDir, signal, onLine: onNixLine });
    const infos = await Promise.all(storePaths.map((path) => readExported(path, to)));
    const nars = await this.#moveNars(infos, to, signal);
    const exported: ExportedNar[] = [];
    for (const info of infos) {
      const nar = nars.get(info.url);
      if (nar === undefined) throw lost(info.storePath, to);
      exported.push({ ...nar, info: { ...info, url: urlOf(nar.torrent) } });
    }
    return exported;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clear().catch(() => undefined); // the next export removes it
    await this.#session[Symbol.asyncDispose]();
  }

  async #clear(): Promise<void> {
    for (const name of await readdir(this.#session.dir))
      await rm(this.#session.path(name), { recursive: true, force: true });
  }

  /** Nix adds a path only if it finds the narinfos of its references. */
  async #copyNarInfosOfReferences(paths: readonly ValidPath[], to: string): Promise<void> {
    const own = new Set<string>(paths.map(({ storePath }) => storeHashOf(storePath)));
    const referred = new Set(paths.flatMap(({ references }) => references.map((name) => name.slice(0, 32))));
    for (const hash of [...referred].filter((name) => !own.has(name)))
      await copyFile(join(this.#store.dir, `${hash}.narinfo`), join(to, `${hash}.narinfo`));
  }

  /** Moves the NARs that match their narinfos. Returns them by their URL in `from`; several paths may share one. */
  async #moveNars(infos: readonly NarInfo[], from: string, signal: AbortSignal): Promise<Map<string, Moved>> {
    const files = new Map(
      infos.map((info) => [info.url, { info, path: join(from, info.url), sizeBytes: info.fileSize ?? 0 }]),
    );
    const moved = new Map<string, Moved>();
    for await (const { item, hashes } of hashNars([...files.values()], signal)) {
      const { info, path } = item;
      if (hashes.fileHash !== info.fileHash) continue;
      const torrent = narTorrent({ ...hashes, extension: extensionOf(info.compression) });
      const place = { url: urlOf(torrent), storePath: info.storePath };
      const target = this.#store.narPath(place);
      // An existing file of the same NAR stays: the catalogue knows it by its time of change.
      if (!(await isSameNar(target, hashes)))
        await rename(path, target).catch((error: unknown) => Promise.reject(storeError(error, target)));
      const file = await this.#store.statNar(place);
      if (file !== undefined) moved.set(info.url, { torrent, mtimeMs: file.mtimeMs });
    }
    return moved;
  }
}

type Moved = Omit<ExportedNar, 'info'>;

function urlOf({ fileHash, name }: NarTorrent): string {
  return FileStore.narUrl(fileHash, name.split('.nar.')[1] ?? '');
}

async function readExported(path: StorePath, dir: string): Promise<NarInfo> {
  try {
    return parseNarInfo(await readFile(join(dir, `${storeHashOf(path)}.narinfo`), 'utf8'));
  } catch (cause) {
    throw lost(path, dir, cause);
  }
}

function lost(path: StorePath, dir: string, cause?: unknown): NarswarmError {
  const message = `${dir} does not hold the NAR of ${path} as nix wrote it: check the disk and run the same command again`;
  return new NarswarmError('STORE_CORRUPT', message, { cause, facts: { path } });
}
