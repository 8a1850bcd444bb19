import { statSync } from 'node:fs';
import { readdir, rename, rm } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { storeError } from '../disk/store-error.ts';
import { NarswarmError } from '../errors.ts';
import type { NarHash } from '../nix/brands.ts';
import { asFileHash, asNarHash } from '../nix/hash.ts';
import { dumpNars } from '../nix/nar-dump.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { ValidPath } from '../nix/valid-path.ts';
import { extensionOf, narTorrent, type NarTorrent } from '../torrent/canonical.ts';
import { claim, type Claimed } from './claims.ts';
import type { FileStore } from './file-store.ts';
import { isSameNar } from './hash-nar.ts';
import { hashNars } from './hash-pool.ts';
import { PartialSession } from './session.ts';
import { ENCODER_BYTES, writeNar, type NarFormat } from './write-nar.ts';

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

/** Limits of what one process of Nix reads, so that all processors have work until the end. */
const BATCH_BYTES = 16e6;
const BATCH_NARS = 64;

/** Name of a complete NAR: both hashes, so that a later run need not decompress it. */
const COMPLETE = /^([0-9a-df-np-sv-z]{52})-([0-9a-df-np-sv-z]{52})\.nar(?:\.([a-z0-9]+))?$/;

/**
 * The folder into which one process exports NARs: `narswarm/export/<owner>/`. A NAR has its name once it is complete.
 * If the process is killed, the next export takes the complete ones over and removes the rest.
 */
export class ExportFolder implements AsyncDisposable {
  readonly #session: PartialSession;
  readonly #store: FileStore;

  private constructor(session: PartialSession, store: FileStore) {
    this.#session = session;
    this.#store = store;
  }

  /** Makes the folder, with the files of ended processes. @throws STORE_FULL, STORE_UNWRITABLE */
  static async open(store: FileStore): Promise<ExportFolder> {
    return new ExportFolder(await PartialSession.open(store, 'export'), store);
  }

  /** Protects these paths from the garbage collector until the folder is disposed of. @throws as {@link claim} */
  claim(paths: readonly ValidPath[], signal: AbortSignal): Promise<Claimed<readonly ValidPath[]>> {
    const claims = paths.map(({ storePath }) => ({ storeHash: storeHashOf(storePath) }));
    return claim(paths, claims, { store: this.#store, session: this.#session, signal });
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
   * Reads NARs from Nix's store and compresses them, as many at a time as there are processors, the largest first. Their
   * encoders take at most a quarter of the memory.
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
    const failed = new AbortController();
    const signal = AbortSignal.any([options.signal, failed.signal]);
    const batches = batchesOf(infos);
    const work = async (): Promise<void> => {
      for (let batch = batches.shift(); batch !== undefined; batch = batches.shift()) {
        for await (const { path, nar } of dumpNars(batch, { signal }))
          await options.onNar(await this.#write(path, nar, { ...options, signal }));
      }
    };
    const count = Math.min(availableParallelism(), Math.max(1, Math.floor(totalmem() / 4 / ENCODER_BYTES)));
    const workers = Array.from({ length: count }, () =>
      work().catch((error: unknown) => {
        failed.abort(error); // the first failure is the reason of all others
        throw error;
      }),
    );
    await Promise.allSettled(workers);
    await Promise.all(workers);
  }

  /** Moves a NAR to its place. An existing file of the same NAR stays: the catalogue knows it by its time of change. */
  async place({ torrent, path }: FolderNar, storePath: PathInfo['storePath']): Promise<PlacedNar> {
    const place = { url: `nar/${torrent.name}`, storePath };
    const target = this.#store.narPath(place);
    if (await isSameNar(target, torrent)) await rm(path, { force: true });
    else await rename(path, target).catch((error: unknown) => Promise.reject(storeError(error, target)));
    return { url: place.url, mtimeMs: (await this.#store.statNar(place))?.mtimeMs ?? 0 };
  }

  /** Leaves complete NARs to the next export. */
  async [Symbol.asyncDispose](): Promise<void> {
    const names = await readdir(this.#session.dir).catch(() => []);
    for (const name of names)
      if (name.endsWith(PART)) await rm(this.#session.path(name), { force: true }).catch(() => undefined);
    await this.#session[Symbol.asyncDispose]();
  }

  async #write(
    info: PathInfo,
    nar: AsyncIterable<Buffer>,
    options: { readonly format: NarFormat; readonly signal: AbortSignal; readonly onBytes: (bytes: number) => void },
  ): Promise<FolderNar> {
    const { narHash, narSize } = info;
    const part = this.#session.path(`${narHash}${PART}`);
    const { narHash: actual, ...hashes } = await writeNar(nar, part, { ...options, narSize });
    if (actual !== narHash) throw damaged(info);
    const extension = extensionOf(options.format.compression);
    const torrent = narTorrent({ ...hashes, extension });
    const path = this.#session.path(`${narHash}-${torrent.name}`);
    await rename(part, path).catch((error: unknown) => Promise.reject(storeError(error, path)));
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
