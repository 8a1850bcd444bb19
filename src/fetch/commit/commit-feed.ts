import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { referencesFirst } from '../walk/closure.ts';
import type { Committer } from './commit.ts';
import type { Tell } from '../events.ts';
import { hashIn } from '../import/import-order.ts';
import type { NarJob } from '../plan/job.ts';

/** Pause between two commits: each waits for the disk. */
const EVERY_MS = 5_000;

export interface CommitFeedOptions {
  readonly tell: Tell;
  /** Default: 5,000. */
  readonly everyMs?: number;
}

/**
 * Commits NARs while others are still arriving, references first. An import can begin with them, and a killed run keeps
 * its finished part visible. Commits narinfos in batches, every few seconds. A short fetch commits once, at its end.
 */
export class CommitFeed {
  readonly #committer: Committer;
  readonly #tell: Tell;
  readonly #everyMs: number;
  readonly #committed = new Set<StoreHash>();
  /** Narinfos whose NAR is here or not needed. */
  readonly #waiting = new Map<StoreHash, NarInfo>();
  readonly #jobs: NarJob[] = [];
  #hasNews = false;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #hasEnded = false;

  constructor(committer: Committer, { tell, everyMs = EVERY_MS }: CommitFeedOptions) {
    this.#committer = committer;
    this.#tell = tell;
    this.#everyMs = everyMs;
  }

  /** Adds narinfos whose NAR is in the store or not needed; with `job` if it was just fetched. */
  add(infos: Iterable<NarInfo>, job?: NarJob): void {
    for (const info of infos) this.#waiting.set(storeHashOf(info.storePath), info);
    if (job !== undefined) this.#jobs.push(job);
    this.#hasNews = true;
    this.#schedule();
  }

  /**
   * Waits for the running commit. Nothing is committed afterwards. @param options.commits true to commit the waiting
   * paths
   */
  async end({ commits = false }: { readonly commits?: boolean } = {}): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    await this.#running;
    if (commits && this.#hasNews) await this.#commit();
  }

  #schedule(): void {
    if (this.#hasNews && !this.#hasEnded) this.#timer ??= setTimeout(() => void this.#commit(), this.#everyMs);
  }

  async #commit(): Promise<void> {
    this.#hasNews = false;
    // The commit at the end reports a failure of the disk.
    this.#running = this.#commitReady().catch(() => undefined);
    await this.#running;
    this.#timer = undefined;
    this.#schedule();
  }

  async #commitReady(): Promise<void> {
    const ready = new Map<StoreHash, NarInfo>();
    const known = new Set(this.#committed);
    for (const info of referencesFirst(this.#waiting)) {
      if (!info.references.every((name) => known.has(hashIn(name)) || info.storePath.endsWith(`/${name}`))) continue;
      known.add(storeHashOf(info.storePath));
      ready.set(storeHashOf(info.storePath), info);
    }
    if (ready.size === 0) return;
    await this.#committer.commit(ready, this.#jobs);
    for (const [hash, info] of ready) {
      this.#committed.add(hash);
      if (this.#waiting.get(hash) === info) this.#waiting.delete(hash);
    }
    this.#tell({ type: 'committed', paths: Array.from(ready.values(), ({ storePath }) => storePath) });
  }
}
