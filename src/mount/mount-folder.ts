import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { freeBytesAt } from '../disk/free-bytes.ts';
import type { FileStore } from '../store/file-store.ts';
import { PartialSession } from '../store/session.ts';
import { Tree, type TreeNode } from './tree.ts';
import { replaceFile } from '../disk/replace.ts';

/**
 * The folder of one mount: `narswarm/mount/<owner>/`. It has unpacked NARs, and the trees of store paths. Nothing of it
 * outlives the process.
 */
export class MountFolder implements AsyncDisposable {
  readonly #session: PartialSession;

  private constructor(session: PartialSession) {
    this.#session = session;
  }

  /** Makes the folder, and removes those of ended processes. @throws STORE_FULL, STORE_UNWRITABLE */
  static async open(store: FileStore): Promise<MountFolder> {
    const folder = new MountFolder(await PartialSession.open(store, 'mount'));
    await folder.#clear();
    return folder;
  }

  /** Returns the place of a file. */
  path(name: string): string {
    return this.#session.path(name);
  }

  /** Bytes that may be written to its disk. Infinite if that is unknown. @throws the system's error */
  async freeBytes(): Promise<number> {
    return (await freeBytesAt(this.#session.dir)) ?? Infinity;
  }

  /** Keeps a tree on the disk. If that fails, the one of this name before it stays. @throws STORE_FULL, STORE_UNWRITABLE */
  async writeTree(name: string, { nodes }: Tree): Promise<void> {
    await replaceFile(this.path(name), serialize(nodes));
  }

  /** @throws the system's error */
  async readTree(name: string): Promise<Tree> {
    return new Tree(deserialize(await readFile(this.path(name))) as readonly TreeNode[]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clear().catch(() => undefined); // gc removes the rest
    await this.#session[Symbol.asyncDispose]();
  }

  async #clear(): Promise<void> {
    const { dir } = this.#session;
    for (const name of await readdir(dir)) await rm(join(dir, name), { recursive: true, force: true });
  }
}
