import { isNarswarmError } from '../../errors.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { FileHash } from '../../nix/brands.ts';
import { MAGIC_BYTES } from '../../nix/compression.ts';
import { judgeFile } from '../../store/hashing/judge-file.ts';
import type { Origin, PartialNar } from '../../store/partial.ts';
import type { Tell } from '../events.ts';
import type { TaskFiles } from './task-files.ts';
import { ATTEMPTS, type Task } from './task.ts';
import type { UpstreamOrder } from './upstream-order.ts';

/** `fetched`: the NAR is in the store. `again`: queue the task once more. */
export type Verdict = 'fetched' | 'again';

export interface NarJudgeOptions {
  readonly files: TaskFiles;
  readonly upstreams: readonly Upstream[];
  readonly order: UpstreamOrder;
  /** True if peers are asked, too. */
  readonly hasPeers: boolean;
  /** True if BitTorrent clients may ask for a NAR by its torrent as soon as it is here. */
  readonly givesTorrents: boolean;
  /** Called with the senders if a NAR has other bytes than named. Returns true if a liar was found and banned. */
  readonly onWrong: (task: Task, origins: readonly Origin[]) => boolean;
  readonly tell: Tell;
}

/**
 * Judges NARs once all their bytes are here: puts them into the store, or records which source is to blame and what the
 * next attempt must do differently.
 */
export class NarJudge {
  readonly #options: NarJudgeOptions;

  constructor(options: NarJudgeOptions) {
    this.#options = options;
  }

  /**
   * Settles a complete NAR into the store.
   *
   * @throws HASH_MISMATCH; storage failures; the signal's reason
   */
  async settle(task: Task, signal: AbortSignal): Promise<Verdict> {
    const { files, givesTorrents } = this.#options;
    const { partial } = task;
    if (partial === undefined) return 'again';
    const judge = async (path: string, fileHash: FileHash): Promise<string | undefined> => {
      const { info, sizeBytes: fileSize } = task.job;
      const own = await judgeFile({ path, fileHash, fileSize }, info, signal);
      if (own === undefined) return undefined;
      files.become(task, own);
      return files.pathOf(task.job);
    };
    const isTrusted = (origin: Origin): boolean => this.isTrusted(task, origin);
    try {
      await partial.drain();
      const head = partial.missing().length === 0 ? await partial.head(MAGIC_BYTES) : undefined;
      // Pieces that do not match the file are the hash map's mistake and must not be passed on.
      const options = { judge, isTrusted, readsPieces: givesTorrents };
      if (!(await partial.settle(files.pathOf(task.job), options))) task.job.torrent = undefined;
      if (head !== undefined) await files.relabel(task, head);
    } catch (error) {
      await this.#prepareAgain(task, partial, error);
      return 'again';
    }
    await files.forget(task);
    return 'fetched';
  }

  /** Returns true for an upstream that the user has configured, and that has sent nothing wrong of this NAR. */
  isTrusted({ lies }: Task, origin: Origin): boolean {
    const { upstreams, order } = this.#options;
    const upstream = upstreams.find(({ name }) => name === origin);
    return upstream !== undefined && !upstream.isAnnounced && !lies.has(origin) && !order.isLiar(upstream);
  }

  /** Blames the senders of wrong bytes, and prepares the next attempt. @throws the error if there is none */
  async #prepareAgain(task: Task, partial: PartialNar, error: unknown): Promise<void> {
    const { files, upstreams, order, hasPeers, onWrong, tell } = this.#options;
    if (!isNarswarmError(error, 'HASH_MISMATCH')) throw error;
    const { origins = [] } = error.facts;
    this.#blame(task, origins);
    // An attempt that leaves one liar less does not count: otherwise five liars would make the NAR fail.
    const isLiarKnown = onWrong(task, origins);
    if (!isLiarKnown && task.attempts++ >= ATTEMPTS) throw error;
    task.isLiarUnknown = !isLiarKnown;
    const isOfMembers = origins.some((origin) => upstreams.every(({ name }) => name !== origin));
    if (isOfMembers && upstreams.length > 0) task.wrongOfMembers++;
    if (!hasPeers && order.of(task.lies).length === 0) throw error;
    tell({ type: 'warning', warning: { kind: 'fetched-again', error, path: task.job.info.storePath } });
    if (error.facts.mapLied !== true) return;
    task.job.torrent = undefined;
    await partial.discard();
    await files.forget(task);
    if (upstreams.length === 0) throw error;
  }

  #blame({ lies }: Task, liars: readonly Origin[]): void {
    const { upstreams, order } = this.#options;
    for (const upstream of upstreams) {
      const { name } = upstream;
      if (!liars.includes(name)) continue;
      lies.set(name, (lies.get(name) ?? 0) + 1);
      if (liars.length === 1) order.noteLie(upstream);
    }
  }
}
