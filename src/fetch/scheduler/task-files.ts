import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { FileHash } from '../../nix/brands.ts';
import { markedCompression } from '../../nix/compression.ts';
import type { FileDescription, NarInfo } from '../../nix/narinfo.ts';
import { FileStore } from '../../store/file-store.ts';
import { isSameNar } from '../../store/hashing/hash-nar.ts';
import { PartialNar } from '../../store/partial.ts';
import type { PartialSession } from '../../store/session.ts';
import { extensionOf } from '../../torrent/canonical.ts';
import type { Tell } from '../events.ts';
import type { NarJob } from '../plan/job.ts';
import { namedFile } from '../plan/named-file.ts';
import { unavailable, type Task } from './task.ts';

export interface TaskFilesOptions {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Called with each NAR that begins to arrive. */
  readonly onBegun?: ((info: NarInfo, partial: PartialNar) => void) | undefined;
  readonly tell: Tell;
}

/**
 * The files of tasks: where each arrives, its place in the store, and the file that a NAR turned out to be in if its
 * narinfo named another one.
 */
export class TaskFiles {
  readonly #store: FileStore;
  readonly #session: PartialSession;
  readonly #onBegun: TaskFilesOptions['onBegun'];
  readonly #tell: Tell;
  readonly #partials = new Set<PartialNar>();
  readonly #begun = new Set<FileHash>();
  /** NAR files that were in the store at the start. An interrupted run may have left them. */
  #present: ReadonlySet<string> = new Set();
  /** Files that NARs turned out to be in, by the requested FileHash. */
  readonly #replaced = new Map<FileHash, Required<FileDescription>>();

  constructor({ store, session, onBegun, tell }: TaskFilesOptions) {
    this.#store = store;
    this.#session = session;
    this.#onBegun = onBegun;
    this.#tell = tell;
  }

  /** Lists the files in the store before the first task. */
  async begin(): Promise<void> {
    this.#present = new Set(await readdir(join(this.#store.dir, 'nar')).catch(() => []));
  }

  /** Closes the partial files of unsettled tasks. */
  async close(): Promise<void> {
    for (const partial of this.#partials) await partial.close();
  }

  /** Returns the place of a job's NAR once it is verified. */
  pathOf(job: NarJob): string {
    return `${this.#store.dir}/${FileStore.narUrl(job.fileHash, job.extension)}`;
  }

  /** Returns true if the store had a file of that name, or a part from an earlier run. */
  hasTraces({ job }: Task): boolean {
    const { leftovers } = this.#session;
    return this.#present.has(basename(this.pathOf(job))) || leftovers.has(this.#session.path(job.fileHash));
  }

  /** Returns true if the file of a task has been opened, even if it is closed again. */
  hasBegun({ job }: Task): boolean {
    return this.#begun.has(job.fileHash);
  }

  /** Opens the partial file. Returns undefined if the NAR is already there. */
  async open(task: Task): Promise<PartialNar | undefined> {
    if (task.partial !== undefined) return task.partial;
    const { job } = task;
    const target = this.pathOf(job);
    if (this.#present.has(basename(target)) && (await isSameNar(target, job))) {
      job.torrent = undefined; // the file was not checked against its pieces
      task.isOfMembers = false;
      return undefined;
    }
    const { leftovers, hashThread } = this.#session;
    const path = this.#session.path(job.fileHash);
    task.partial = await PartialNar.open(path, job, leftovers, hashThread);
    if (job.torrent !== undefined) task.partial.learn(job.torrent.pieces); // it may have come meanwhile
    this.#partials.add(task.partial);
    if (task.partial.heldBytes > 0) task.isOfMembers = false; // an earlier run may have got them from any source
    if (!this.#begun.has(job.fileHash)) this.#tell({ type: 'nar-kept', bytes: task.partial.heldBytes });
    this.#begun.add(job.fileHash);
    this.#onBegun?.(job.info, task.partial);
    return task.partial;
  }

  /** Closes the partial file of a task. The next attempt opens it again. */
  async forget(task: Task): Promise<void> {
    if (task.partial === undefined) return;
    await task.partial.close();
    this.#partials.delete(task.partial);
    task.partial = undefined;
  }

  /** Continues with another file of the same NAR, as an upstream has it. Drops the bytes of the first one. */
  async replace(task: Task, own: Required<FileDescription>): Promise<void> {
    task.files.add(own.fileHash);
    await task.partial?.discard();
    await this.forget(task);
    this.become(task, own);
  }

  /** Continues with the uncompressed NAR, which a neighbour has. Nothing of the named file is here. */
  async becomeUncompressed(task: Task, uncompressed: Required<FileDescription>): Promise<void> {
    const { url, compression } = task.job.info;
    const named = { url, compression, fileHash: task.job.fileHash, fileSize: task.job.sizeBytes };
    task.changes++;
    await this.replace(task, uncompressed);
    task.named = named;
  }

  /** Continues with the file that the narinfo named, since no neighbour has the uncompressed NAR any more. */
  async becomeNamed(task: Task, named: Required<FileDescription>): Promise<void> {
    task.changes++;
    await this.replace(task, named);
    task.named = undefined;
  }

  /**
   * Names a file in the store by its actual compression if the narinfo named another one. Not every Nix looks at the
   * file.
   *
   * @param head the first bytes of the file
   */
  async relabel(task: Task, head: Uint8Array): Promise<void> {
    const { info, fileHash, sizeBytes } = task.job;
    const compression = markedCompression(info.compression, head);
    if (compression === undefined || compression === info.compression) return;
    const path = this.pathOf(task.job);
    task.job.torrent = undefined; // the torrent names another file
    const url = FileStore.narUrl(fileHash, extensionOf(compression));
    this.become(task, { url, compression, fileHash, fileSize: sizeBytes });
    await this.#store.placeNar(path, task.job.info);
  }

  /** Records that the NAR of a task is in another file than its narinfo named. The signature covers only the NAR. */
  become(task: Task, { url, compression, fileHash, fileSize }: Required<FileDescription>): void {
    const description = { url, compression, fileHash, fileSize };
    const info = { ...task.job.info, ...description };
    const file = namedFile(info);
    if (file === undefined) throw unavailable(task.job, `${compression} is not a known compression`);
    const [asked = task.job.fileHash] = task.files;
    this.#replaced.set(asked, description);
    task.job = { ...task.job, ...file, info, torrent: undefined };
  }

  /** Returns the narinfo with the fetched file, if it differs from the named one. */
  asFetched(info: NarInfo): NarInfo {
    const file = info.fileHash === undefined ? undefined : this.#replaced.get(info.fileHash);
    return file === undefined ? info : { ...info, ...file };
  }
}
