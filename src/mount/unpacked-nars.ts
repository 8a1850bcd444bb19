import { createHash } from 'node:crypto';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { giveBack, takeBuffer } from '../bytes/lent-buffers.ts';
import { readFully } from '../disk/read-small.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { NarHash } from '../nix/brands.ts';
import { narHashOf } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { MountFolder } from './mount-folder.ts';
import { readNarTree } from './nar-tree.ts';
import type { Tree } from './tree.ts';

/** Limit on bytes of unpacked NARs that are not being read, and the largest share of the free space for them. */
const MOST_BYTES = 10e9;
const MOST_OF_FREE = 0.1;

/** Bytes that are hashed at a time. */
const READ_BYTES = 1024 * 1024;

/** A NAR that is at hand, and its signed narinfo. */
export interface NarAtHand {
  readonly info: NarInfo;
  /** Writes it into a new file, uncompressed. Does not check it; more than NarSize bytes may be there. */
  readonly writeTo: (path: string) => Promise<void>;
}

/**
 * One way to get a NAR. Undefined if there is none.
 *
 * @param failure of the way before it
 */
export type NarWay = (failure: unknown) => Promise<NarAtHand | undefined>;

export interface UnpackedNarsOptions {
  /** Returns the ways to get a NAR, in the order in which they are tried. */
  readonly waysTo: (info: NarInfo) => readonly NarWay[];
  /** Called with each NAR that is to be unpacked. `done` fails if that is not possible. */
  readonly onUnpacking?: (info: NarInfo, done: Promise<unknown>) => void;
  /** Default: 10 GB. */
  readonly mostBytes?: number;
}

/** An unpacked NAR, checked against NarHash, until it is released. */
export interface OpenNar {
  readonly file: FileHandle;
  readonly tree: Tree;
  release(): Promise<void>;
}

interface Unpacked {
  readonly path: string;
  readonly narSize: number;
  readonly file: FileHandle;
  readonly tree: Tree;
}

/** A NAR that somebody reads or waits for. */
interface Used {
  readonly unpacking: Promise<Unpacked>;
  unpacked: Unpacked | undefined;
  users: number;
}

/**
 * Unpacks NARs into files, each once for all readers. Files that are not being read are removed when there is no room.
 */
export class UnpackedNars {
  readonly #folder: MountFolder;
  readonly #options: UnpackedNarsOptions;
  readonly #used = new Map<NarHash, Used>();
  /** Files that are not being read; those released longest ago first. */
  readonly #unused = new Map<NarHash, Pick<Unpacked, 'path' | 'narSize'>>();

  constructor(folder: MountFolder, options: UnpackedNarsOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  /**
   * Opens the NAR of a path, and unpacks it first if it is not here.
   *
   * @throws HASH_MISMATCH if it is not the signed one; STORE_FULL, STORE_UNWRITABLE; NAR_UNAVAILABLE and others
   */
  async open(info: NarInfo): Promise<OpenNar> {
    const { narHash } = info;
    const used = this.#used.get(narHash) ?? { unpacking: this.#reopen(info), unpacked: undefined, users: 0 };
    this.#used.set(narHash, used);
    used.users++;
    try {
      used.unpacked = await used.unpacking;
    } catch (error) {
      await this.#release(narHash, used);
      throw error;
    }
    const { file, tree } = used.unpacked;
    return { file, tree, release: () => this.#release(narHash, used) };
  }

  async #release(narHash: NarHash, used: Used): Promise<void> {
    used.users--;
    if (used.users > 0) return;
    // At once, so that the next reader finds it in one of the two.
    this.#used.delete(narHash);
    if (used.unpacked === undefined) return;
    const { path, narSize, file } = used.unpacked;
    this.#unused.set(narHash, { path, narSize });
    await file.close();
  }

  async #reopen(info: NarInfo): Promise<Unpacked> {
    const kept = this.#unused.get(info.narHash);
    this.#unused.delete(info.narHash);
    const file = kept && (await open(kept.path, 'r').catch(() => undefined));
    if (kept === undefined || file === undefined) {
      const unpacking = this.#unpack(info);
      this.#options.onUnpacking?.(info, unpacking);
      return unpacking;
    }
    try {
      return { ...kept, file, tree: await readNarTree(file) };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #unpack(wanted: NarInfo): Promise<Unpacked> {
    let failure: unknown;
    for (const way of this.#options.waysTo(wanted)) {
      try {
        const nar = await way(failure);
        if (nar !== undefined) return await this.#write(wanted.narHash, nar);
      } catch (error) {
        if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw error;
        failure = error;
      }
    }
    throw failure;
  }

  /** @param name of the file */
  async #write(name: NarHash, { info, writeTo }: NarAtHand): Promise<Unpacked> {
    const path = this.#folder.path(name);
    await this.#makeRoom(info.narSize);
    let file: FileHandle | undefined;
    try {
      await rm(path, { force: true });
      await writeTo(path);
      file = await open(path, 'r');
      await check(info, file);
      return { path, file, narSize: info.narSize, tree: await readNarTree(file) };
    } catch (error) {
      await file?.close();
      await rm(path, { force: true });
      throw error;
    }
  }

  /**
   * Removes files that are not being read until another one fits. Files that are being read stay, whatever their size.
   */
  async #makeRoom(bytes: number): Promise<void> {
    const heldBytes = [...this.#unused.values()].reduce((sum, { narSize }) => sum + narSize, 0);
    const free = (await this.#folder.freeBytes()) + heldBytes;
    let excess = heldBytes + bytes - Math.min(this.#options.mostBytes ?? MOST_BYTES, MOST_OF_FREE * free);
    for (const [narHash, { path, narSize }] of this.#unused) {
      if (excess <= 0) return;
      this.#unused.delete(narHash);
      await rm(path, { force: true });
      excess -= narSize;
    }
  }
}

/** Reads the bytes that will be shown. @throws HASH_MISMATCH if their SHA-256 is not NarHash */
async function check({ storePath, narHash, narSize }: NarInfo, file: FileHandle): Promise<void> {
  const sha256 = createHash('sha256');
  const buffer = takeBuffer(READ_BYTES);
  try {
    for (let offset = 0; offset < narSize; offset += READ_BYTES) {
      const some = buffer.subarray(0, Math.min(READ_BYTES, narSize - offset));
      sha256.update(some.subarray(0, await readFully(file.fd, some, offset)));
    }
  } finally {
    giveBack(buffer);
  }
  if (narHashOf(sha256.digest()) === narHash) return;
  throw new NarswarmError('HASH_MISMATCH', `the NAR of ${storePath} does not have the signed contents`, {
    facts: { path: storePath },
  });
}
