import { readdir, rm, rmdir, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inState } from './state-folder.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { ownName, stateOfOwner } from '../disk/owner.ts';
import { inStore } from '../disk/store-error.ts';
import type { FileStore } from './file-store.ts';

/** Interval at which a turn shows that it is alive, for machines that cannot see its process. */
const HEARTBEAT_MS = 30_000;
/** Silence after which a turn of another machine counts as ended, also by its clock: that may be ahead of ours. */
const SILENT_MS = 10 * 60_000;
const LOOK_AGAIN_MS = 100;
/** Looks at others that may give way, before they count as having the turn. */
const LOOKS_AT_OTHERS = 10;

/** Work that one process at a time may do on a store. Each has a folder in the store's state. */
export type Work =
  | 'announcing'
  | 'collecting'
  | 'packing'
  | 'publishing'
  | 'receiving'
  | 'seeding'
  | 'serving'
  | 'updating';

/**
 * A process's turn for work that only one may do at a time: a folder `narswarm/<work>/<owner>/`. A folder that a crash
 * has left delays no process.
 */
export class Turn implements AsyncDisposable {
  readonly #dir: string;
  readonly #firstMade: string;
  readonly #heartbeat: NodeJS.Timeout;

  /** @param firstMade the outermost folder that was made for the turn */
  private constructor(dir: string, firstMade: string) {
    this.#dir = dir;
    this.#firstMade = firstMade;
    this.#heartbeat = setInterval(() => {
      const now = new Date();
      utimes(dir, now, now).catch(() => undefined);
    }, HEARTBEAT_MS).unref();
  }

  /**
   * Takes the turn if no other process has it. Of processes that try at the same moment, the first by name gets it: the others
   * give way at once, and it waits for them. So it may wait for a second before it fails.
   *
   * @returns the turn, or the name of the owner that has it
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  static async take(store: FileStore, work: Work): Promise<Turn | string> {
    const name = await ownName();
    const dir = join(folderOf(store, work), name);
    const made = await inStore(makeFolder(dir), dir);
    for (let looks = 1; ; looks++) {
      const [other] = (await workers(store, work)).filter((one) => one !== name).toSorted();
      if (other === undefined) return new Turn(dir, made ?? dir);
      if (other < name || looks > LOOKS_AT_OTHERS) {
        await rm(dir, { recursive: true, force: true });
        return other;
      }
      await sleep(LOOK_AGAIN_MS);
    }
  }

  /** Waits for the turn. @throws as {@link take}; the signal's reason */
  static async wait(
    store: FileStore,
    work: Work,
    options: { signal: AbortSignal; onWait?: ((owner: string) => void) | undefined },
  ): Promise<Turn> {
    let hasTold = false;
    for (;;) {
      const taken = await Turn.take(store, work);
      if (taken instanceof Turn) return taken;
      if (!hasTold) options.onWait?.(taken);
      hasTold = true;
      await pause(LOOK_AGAIN_MS * (1 + Math.random()), options.signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#heartbeat);
    // If the store is no longer writable, the folder stays. Nobody waits for an ended process.
    await rm(this.#dir, { recursive: true, force: true }).catch(() => undefined);
    // Removes every folder that it made, unless others use it.
    for (let made = this.#dir; made !== this.#firstMade;) {
      made = dirname(made);
      await rmdir(made).catch(() => undefined);
    }
  }
}

/** Returns true if a process has this turn. Writes nothing. */
export async function isAtWork(store: FileStore, work: Work): Promise<boolean> {
  return (await ownersAtWork(store, work)).length > 0;
}

/** Returns the owners' names of the processes that have this turn. Writes nothing. */
export async function ownersAtWork(store: Pick<FileStore, 'stateDir'>, work: Work): Promise<string[]> {
  const parent = folderOf(store, work);
  const names = await readdir(parent).catch(() => []);
  const working = await Promise.all(names.map((name) => isWorking(join(parent, name), name)));
  return names.filter((_, index) => working[index]);
}

/** Waits until no process has this turn. @throws the signal's reason */
export async function untilNobody(
  store: FileStore,
  work: Work,
  options: { signal: AbortSignal; onWait?: (() => void) | undefined },
): Promise<void> {
  let hasTold = false;
  while ((await workers(store, work)).length > 0) {
    if (!hasTold) options.onWait?.();
    hasTold = true;
    await pause(LOOK_AGAIN_MS, options.signal);
  }
}

/** @throws the signal's reason instead of the timer's own error */
async function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  await sleep(durationMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/** Returns the names of the owners at work. Removes the folders of ended processes. */
async function workers(store: FileStore, work: Work): Promise<string[]> {
  const parent = folderOf(store, work);
  const working: string[] = [];
  for (const name of await readdir(parent).catch(() => [])) {
    if (await isWorking(join(parent, name), name)) working.push(name);
    else await rm(join(parent, name), { recursive: true, force: true });
  }
  return working;
}

async function isWorking(path: string, name: string): Promise<boolean> {
  const state = await stateOfOwner(name);
  if (state !== 'unknown') return state === 'alive';
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && Math.abs(Date.now() - found.mtimeMs) < SILENT_MS;
}

function folderOf(store: Pick<FileStore, 'stateDir'>, work: Work): string {
  return inState(store, work);
}
