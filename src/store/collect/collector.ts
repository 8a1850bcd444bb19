import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NarswarmError } from '../../errors.ts';
import type { FileStore } from '../file-store.ts';
import { ownName, stateOfOwner } from '../owner.ts';
import { storeError } from '../store-error.ts';

/** How often a collector says that it is alive, for machines that cannot see its process. */
const HEARTBEAT_MS = 30_000;
/** A collector of another machine that has said nothing for this long is gone. */
const SILENT_MS = 10 * 60_000;
const LOOK_AGAIN_MS = 100;

/**
 * The sign that a process removes things from a store: a folder `narswarm/collecting/<owner>/`. One at a time; a crash
 * leaves nothing that anybody would wait for.
 */
export class Collector implements AsyncDisposable {
  readonly #dir: string;
  readonly #heartbeat: NodeJS.Timeout;

  private constructor(dir: string) {
    this.#dir = dir;
    this.#heartbeat = setInterval(() => {
      const now = new Date();
      utimes(dir, now, now).catch(() => undefined);
    }, HEARTBEAT_MS).unref();
  }

  /** @throws STORE_BUSY where another one is at work; STORE_FULL, STORE_UNWRITABLE */
  static async announce(store: FileStore): Promise<Collector> {
    const name = await ownName();
    const dir = join(folderOf(store), name);
    await mkdir(dir, { recursive: true }).catch((error: unknown) => Promise.reject(storeError(error, dir)));
    const other = (await collectors(store)).find((one) => one !== name);
    if (other !== undefined) {
      await rm(dir, { recursive: true, force: true });
      throw new NarswarmError(
        'STORE_BUSY',
        `another narswarm gc is at work on ${store.dir}: run this one when it is done`,
        { facts: { path: store.dir, owner: other } },
      );
    }
    return new Collector(dir);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#heartbeat);
    await rm(this.#dir, { recursive: true, force: true });
  }
}

/** Waits until nobody removes things from the store. @throws the signal's reason */
export async function untilCollected(
  store: FileStore,
  options: { signal: AbortSignal; onWait?: (() => void) | undefined },
): Promise<void> {
  let hasTold = false;
  while ((await collectors(store)).length > 0) {
    if (!hasTold) options.onWait?.();
    hasTold = true;
    await sleep(LOOK_AGAIN_MS, undefined, { signal: options.signal });
  }
}

/** Names of the collectors that are at work; folders of those that are gone are removed. */
async function collectors(store: FileStore): Promise<string[]> {
  const parent = folderOf(store);
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

function folderOf(store: FileStore): string {
  return join(store.stateDir, 'collecting');
}
