import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { namesIn } from '../disk/names-in.ts';
import { remove } from '../disk/remove.ts';
import type { FileStore } from '../store/file-store.ts';
import { onDisk } from './disk-error.ts';

const PART = '.part';
/** Files and bytes after which the disk is synced. Until then, none of them has its name. */
const MAX_FILES = 256;
const MAX_BYTES = 64 * 1024 * 1024;

/**
 * Files on a disk that may be pulled out at any moment. Each is written beside its place, under a name that readers
 * ignore. They get their names once their bytes are on the disk: so a file under its own name is whole. One sync for
 * many files is much faster than one for each.
 */
export class StagedFiles {
  readonly #suitcase: FileStore;
  readonly #onSettled: (paths: readonly string[]) => void;
  #paths: string[] = [];
  #bytes = 0;

  /** @param onSettled called with the files that have got their names */
  constructor(suitcase: FileStore, onSettled: (paths: readonly string[]) => void = () => undefined) {
    this.#suitcase = suitcase;
    this.#onSettled = onSettled;
  }

  /** Returns the path under which a file is written first. */
  static partOf(path: string): string {
    return `${path}${PART}`;
  }

  /** Takes a file that was written under {@link partOf} its path. @throws STORE_FULL, STORE_UNWRITABLE */
  async add(path: string, sizeBytes: number): Promise<void> {
    this.#paths.push(path);
    this.#bytes += sizeBytes;
    if (this.#paths.length >= MAX_FILES || this.#bytes >= MAX_BYTES) await this.settle();
  }

  /** Waits for the disk, then gives all files their names, in the order in which they were added. */
  async settle(): Promise<void> {
    if (this.#paths.length === 0) return;
    await onDisk(this.#suitcase.dir, async () => {
      await this.#suitcase.sync();
      for (const path of this.#paths) await rename(StagedFiles.partOf(path), path);
    });
    this.#onSettled(this.#paths);
    this.#paths = [];
    this.#bytes = 0;
  }
}

/** Names of NARs and narinfos. Everything else in the folder is somebody else's. */
const OURS = /^(?:[0-9a-z]{52}\.nar|[0-9a-z]{32}\.narinfo)\./;

/**
 * Removes files that interrupted runs have left in a folder, except wanted ones. @param wanted names without `.part`
 */
export async function removeLeftovers(folder: string, wanted: ReadonlySet<string>): Promise<void> {
  for await (const name of namesIn(folder)) {
    const isLeft = name.endsWith('.tmp') || (name.endsWith(PART) && !wanted.has(name.slice(0, -PART.length)));
    if (isLeft && OURS.test(name)) await remove(join(folder, name));
  }
}
