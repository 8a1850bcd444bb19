import { readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Limits } from '../bytes/rate-limits.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { machineOf, ownName } from '../disk/owner.ts';
import type { FileStore } from './file-store.ts';
import { inState } from './state-folder.ts';

/** Interval at which a process shows which limits it uses, and looks at the other processes. */
const LOOK_MS = 1_000;
/** A process that has not shown itself for this time no longer uses the limit. */
const IDLE_MS = 3_000;
/** Age at which files of a killed process are removed. */
const LEFTOVER_MS = 60_000;

/**
 * Divides rate limits among the processes of a machine that use the same store, such as a daemon and a fetch. Each
 * process takes an equal part while the others use the limit, too. Processes show that by files
 * `rates/<owner>.<limit>`.
 */
export class RateShares implements AsyncDisposable {
  readonly #dir: string;
  readonly #owner: string;
  readonly #limits: ReadonlyMap<string, RateLimit>;
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> = Promise.resolve();

  private constructor(dir: string, owner: string, limits: ReadonlyMap<string, RateLimit>) {
    this.#dir = dir;
    this.#owner = owner;
    this.#limits = limits;
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(() => this.#look());
    }, LOOK_MS).unref();
  }

  /** Starts to share the limits. Does nothing without limits, or if this process shares them already. */
  static async open(store: FileStore, limits: Limits | undefined): Promise<AsyncDisposable> {
    const claimed = limits?.claimForSharing();
    if (claimed === undefined || claimed.size === 0) return new AsyncDisposableStack();
    return new RateShares(inState(store, 'rates'), await ownName(), claimed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    await Promise.all([...this.#limits.keys()].map((limit) => rm(this.#fileOf(limit), { force: true })));
  }

  /** Updates the shares. Never rejects: if the store cannot be written, each process has the whole limit. */
  async #look(): Promise<void> {
    const nowMs = Date.now();
    try {
      for (const [name, limit] of this.#limits) if (limit.isInUse) await this.#show(this.#fileOf(name));
      const users = await this.#users(nowMs);
      for (const [name, limit] of this.#limits) limit.setSharers(1 + (users.get(name) ?? 0));
    } catch {
      for (const limit of this.#limits.values()) limit.setSharers(1);
    }
  }

  async #show(file: string): Promise<void> {
    const now = new Date();
    await utimes(file, now, now).catch(async () => {
      await makeFolder(this.#dir);
      await writeFile(file, '');
    });
  }

  /** Counts the other processes of this machine that use each limit. */
  async #users(nowMs: number): Promise<Map<string, number>> {
    const users = new Map<string, number>();
    const machine = machineOf(this.#owner);
    for (const file of await readdir(this.#dir).catch(() => [])) {
      const [owner = '', name = ''] = file.split('.');
      if (owner === this.#owner || machineOf(owner) !== machine) continue;
      const stats = await stat(join(this.#dir, file)).catch(() => undefined);
      if (stats === undefined) continue;
      const idleMs = nowMs - stats.mtimeMs;
      if (idleMs < IDLE_MS) users.set(name, (users.get(name) ?? 0) + 1);
      else if (idleMs > LEFTOVER_MS) await rm(join(this.#dir, file), { force: true });
    }
    return users;
  }

  #fileOf(limit: string): string {
    return join(this.#dir, `${this.#owner}.${limit}`);
  }
}
