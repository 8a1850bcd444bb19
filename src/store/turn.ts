import { readdir, rm, rmdir, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inState } from './state-folder.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { ownName, stateOfOwner } from '../disk/owner.ts';
import { storeError } from '../disk/store-error.ts';
import type { FileStore } from './file-store.ts';

/** How often whoever has a turn says that it is alive, for machines that cannot see its process. */
const HEARTBEAT_MS = 30_000;
/** One of another machine that has said nothing for this long is gone. */
const SILENT_MS = 10 * 60_000;
const LOOK_AGAIN_MS = 100;

/** What one process at a time may do with a store; each is a folder of the store's state. */
export type Work = 'collecting' | 'publishing' | 'serving' | 'updating';

/**
 * A process's turn at something that only one may do at a time: a folder `narswarm/<work>/<owner>/`. A crash leaves
 * nothing that anybody would wait for.
 */
export class Turn implements AsyncDisposable {
  readonly #dir: string;
  readonly #firstMade: string;
  readonly #heartbeat: NodeJS.Timeout;

  /** @param firstMade the outermost folder that was made for it */
  private constructor(dir: string, firstMade: string) {
    this.#dir = dir;
    this.#firstMade = firstMade;
    this.#heartbeat = setInterval(() => {
      const now = new Date();
      utimes(dir, now, now).catch(() => undefined);
    }, HEARTBEAT_MS).unref();
  }

  /**
   * Takes the turn where nobody else has it. Of two that try at the same moment it may be that neither gets it.
   *
   * @returns the turn, or the owner's name of a process that has it
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  static async take(store: FileStore, work: Work): Promise<Turn | string> {
    const name = await ownName();
    const dir = join(folderOf(store, work), name);
    const made = await makeFolder(dir).catch((error: unknown) => Promise.reject(storeError(error, dir)));
    const other = (await workers(store, work)).find((one) => one !== name);
    if (other === undefined) return new Turn(dir, made ?? dir);
    await rm(dir, { recursive: true, force: true });
    return other;
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
    // A store that can be written no longer keeps the folder; nobody waits for a process that is gone.
    await rm(this.#dir, { recursive: true, force: true }).catch(() => undefined);
    // Nothing stays that was not there before, unless somebody else has put something there.
    for (let made = this.#dir; made !== this.#firstMade;) {
      made = dirname(made);
      await rmdir(made).catch(() => undefined);
    }
  }
}

/** Whether somebody has that turn. Nothing is written. */
export async function isAtWork(store: FileStore, work: Work): Promise<boolean> {
  const parent = folderOf(store, work);
  for (const name of await readdir(parent).catch(() => [])) if (await isWorking(join(parent, name), name)) return true;
  return false;
}

/** Waits until nobody has that turn. @throws the signal's reason */
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

/** @throws the signal's reason, in place of the timer's own words */
async function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  await sleep(durationMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/** Names of those that are at work; folders of those that are gone are removed. */
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
  return found !== undefined && Date.now() - found.mtimeMs < SILENT_MS;
}

function folderOf(store: FileStore, work: Work): string {
  return inState(store, work);
}
