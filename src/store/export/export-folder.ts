import { statSync } from 'node:fs';
import { link, readdir, rename, rm } from 'node:fs/promises';
import { inStore } from '../../disk/store-error.ts';
import { NarswarmError } from '../../errors.ts';
import type { NarHash, StorePath } from '../../nix/brands.ts';
import { asFileHash, asNarHash } from '../../nix/hash.ts';
import { dumpNars } from '../../nix/programs/nar-dump.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { extensionOf, narTorrent, type NarTorrent } from '../../torrent/canonical.ts';
import { claim, readClaims, type Claim, type Claimed, type SessionKind } from '../claims.ts';
import type { FileStore } from '../file-store.ts';
import { isSameNar } from '../hashing/hash-nar.ts';
import { hashNars } from '../hashing/hash-pool.ts';
import { PartialSession } from '../session.ts';
import { eachAtEncoders, writeNar, type NarFormat } from './write-nar.ts';
import { remove } from '../../disk/remove.ts';
import { moveFile } from '../../disk/replace.ts';

/** A complete NAR in the folder. */
export interface FolderNar {
  readonly narHash: NarHash;
  readonly torrent: NarTorrent;
  readonly path: string;
}

/** A NAR in its place in the store. */
export interface PlacedNar {
  readonly url: string;
  /** Time of the file's last change, in whole milliseconds. */
  readonly mtimeMs: number;
}

/** Limits on the paths that one process of Nix reads, so that all processors have work until the end. */
const BATCH_BYTES = 16e6;
const BATCH_NARS = 64;

/** Name of a complete NAR: both hashes, so that a later run need not decompress it. */
const COMPLETE = /^([0-9a-df-np-sv-z]{52})-([0-9a-df-np-sv-z]{52})\.nar(?:\.([a-z0-9]+))?$/;

/**
 * The folder into which one process compresses NARs: `narswarm/<kind>/<owner>/`. A NAR has its name once it is complete. If
 * the process is killed, the next one of that kind takes the complete ones over and removes the rest.
 */
export class ExportFolder implements AsyncDisposable {
  readonly #session: PartialSession;
  readonly #store: FileStore;

  private constructor(session: PartialSession, store: FileStore) {
    this.#session = session;
    this.#store = store;
  }

  /** Makes the folder, with the files of ended processes. @throws STORE_FULL, STORE_UNWRITABLE */
  static async open(store: FileStore, kind: SessionKind & ('export' | 'recompress')): Promise<ExportFolder> {
    return new ExportFolder(await PartialSession.open(store, kind), store);
  }

  /** Protects these paths from the garbage collector until the folder is disposed of. @throws as {@link claim} */
  claim<T extends { readonly storePath: StorePath }>(
    paths: readonly T[],
    signal: AbortSignal,
  ): Promise<Claimed<readonly T[]>> {
    const claims = paths.map(({ storePath }) => ({ storeHash: storeHashOf(storePath) }));
    return claim(paths, claims, { store: this.#store, session: this.#session, signal });
  }

  /** Yields the claims of other processes. */
  claimsOfOthers(): AsyncGenerator<Claim> {
    return readClaims(this.#store, new Date(), this.#session.dir);
  }

  /**
   * Returns the NARs that earlier runs have completed, among the wanted ones. A power cut may have damaged them, so their
   * files are hashed. Removes all others.
   */
  async takeOver(wanted: ReadonlySet<NarHash>, { compression }: NarFormat, signal: AbortSignal): Promise<FolderNar[]> {
    const taken: FolderNar[] = [];
    const found = new Map<NarHash, { path: string; sizeBytes: number; fileHash: string; narHash: NarHash }>();
    for (const path of this.#session.leftovers) {
      const [, hash = '', fileHash = '', extension = ''] =
        COMPLETE.exec(path.slice(this.#session.dir.length + 1)) ?? [];
      const narHash = hash === '' ? undefined : asNarHash(hash);
      const isWanted = narHash !== undefined && wanted.has(narHash) && extension === extensionOf(compression);
      if (isWanted && !found.has(narHash))
        found.set(narHash, { path, sizeBytes: statSync(path).size, fileHash: asFileHash(fileHash), narHash });
      else await rm(path, { recursive: true, force: true });
    }
    for await (const { item, hashes } of hashNars(found.values(), signal)) {
      const { path, narHash, fileHash } = item;
      if (hashes.fileHash === fileHash && hashes.sizeBytes > 0)
        taken.push({ narHash, path, torrent: narTorrent({ ...hashes, extension: extensionOf(compression) }) });
      else await rm(path, { force: true });
    }
    return taken;
  }

  /**
   * Reads NARs from Nix's store and compresses them, several at a time ({@link eachAtEncoders}), the largest first.
   *
   * @param infos each with another NarHash
   * @param onNar called with each complete NAR; a process of Nix waits for its answer
   * @throws as {@link dumpNars} and {@link writeNar}; NIX_FAILED if a path of Nix's store is damaged
   */
  async export(
    infos: readonly PathInfo[],
    options: {
      readonly format: NarFormat;
      readonly signal: AbortSignal;
      readonly onBytes: (bytes: number) => void;
      readonly onNar: (nar: FolderNar) => Promise<void>;
    },
  ): Promise<void> {
    const { format, onBytes, onNar } = options;
    await eachAtEncoders(batchesOf(infos), options.signal, async (batch, signal) => {
      for await (const { path, nar } of dumpNars(batch, { signal })) {
        const written = await this.write(path, nar, { format, signal, onBytes });
        if (written === undefined) throw damaged(path);
        await onNar(written);
      }
    });
  }

  /** Moves a NAR to its place. An existing file of the same NAR stays: the catalogue knows it by its time of change. */
  async place(nar: FolderNar, storePath: StorePath): Promise<PlacedNar> {
    const placed = await this.#place(nar, storePath, rename);
    await this.drop(nar);
    return placed;
  }

  /**
   * Puts a NAR into its place as {@link place} does, and keeps it in the folder until {@link drop}: if the process is killed
   * before a narinfo names the NAR, the next one finds it here.
   */
  async placeAndKeep(nar: FolderNar, storePath: StorePath): Promise<PlacedNar> {
    // Not all file systems have links.
    return this.#place(nar, storePath, (from, to) => link(from, to).catch(() => rename(from, to)));
  }

  /** Removes a NAR from the folder. */
  async drop({ path }: FolderNar): Promise<void> {
    await remove(path);
  }

  async #place(
    { torrent, path }: FolderNar,
    storePath: StorePath,
    put: (from: string, to: string) => Promise<void>,
  ): Promise<PlacedNar> {
    const place = { url: `nar/${torrent.name}`, storePath };
    const target = this.#store.narPath(place);
    if (!(await isSameNar(target, torrent))) await inStore(put(path, target), target);
    return { url: place.url, mtimeMs: (await this.#store.statNar(place))?.mtimeMs ?? 0 };
  }

  /** Leaves complete NARs to the next export. */
  async [Symbol.asyncDispose](): Promise<void> {
    const names = await readdir(this.#session.dir).catch(() => []);
    for (const name of names)
      if (name.endsWith(PART)) await rm(this.#session.path(name), { force: true }).catch(() => undefined);
    await this.#session[Symbol.asyncDispose]();
  }

  /**
   * Compresses a NAR into the folder. One of the same NarHash at a time.
   *
   * @returns undefined if it has another NarHash
   * @throws as {@link writeNar}
   */
  async write(
    { narHash, narSize }: Pick<PathInfo, 'narHash' | 'narSize'>,
    nar: AsyncIterable<Buffer>,
    options: { readonly format: NarFormat; readonly signal: AbortSignal; readonly onBytes: (bytes: number) => void },
  ): Promise<FolderNar | undefined> {
    const part = this.#session.path(`${narHash}${PART}`);
    const { narHash: actual, ...hashes } = await writeNar(nar, part, { ...options, narSize }).catch(
      async (error: unknown) => {
        await rm(part, { force: true }).catch(() => undefined); // makes room on a full disk
        throw error;
      },
    );
    if (actual !== narHash) {
      await rm(part, { force: true });
      return undefined;
    }
    const extension = extensionOf(options.format.compression);
    const torrent = narTorrent({ ...hashes, extension });
    const path = this.#session.path(`${narHash}-${torrent.name}`);
    await moveFile(part, path);
    return { narHash, torrent, path };
  }
}

/** Ending of a NAR that is being written. */
const PART = '.part';

/** Divides NARs into batches, the largest first. */
function batchesOf(infos: readonly PathInfo[]): PathInfo[][] {
  const batches: PathInfo[][] = [];
  let bytes = BATCH_BYTES;
  for (const info of infos.toSorted((a, b) => b.narSize - a.narSize)) {
    const last = batches.at(-1);
    if (last === undefined || last.length === BATCH_NARS || bytes + info.narSize > BATCH_BYTES) {
      batches.push([info]);
      bytes = info.narSize;
    } else {
      last.push(info);
      bytes += info.narSize;
    }
  }
  return batches;
}

function damaged({ storePath }: PathInfo): NarswarmError {
  const message = `${storePath} is damaged in the Nix store (other contents than Nix has registered): nix-store --repair-path ${storePath}`;
  return new NarswarmError('NIX_FAILED', message, { facts: { path: storePath } });
}
