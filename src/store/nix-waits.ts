import { rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../disk/make-folder.ts';
import { machineOf, ownName } from '../disk/owner.ts';
import type { FileStore } from './file-store.ts';
import { inState } from './state-folder.ts';

/** Interval at which a daemon tells, and others look. */
const LOOK_MS = 500;
/** Age up to which the file counts: its process may have been killed. */
const FRESH_MS = 2_000;

/**
 * Tells the other processes of this machine that use the same store while Nix waits for NARs: by the file
 * `nix-waits/<machine>`, whose time is then renewed twice a second.
 *
 * @param isWaiting returns true while Nix waits
 */
export async function tellNixWaits(store: FileStore, isWaiting: () => boolean): Promise<AsyncDisposable> {
  const file = await fileOf(store);
  let isTold = false;
  let telling: Promise<void> = Promise.resolve();
  const tell = async (): Promise<void> => {
    const isNow = isWaiting();
    if (isNow) await renew(file);
    else if (isTold) await rm(file, { force: true });
    isTold = isNow;
  };
  const timer = setInterval(() => {
    telling = telling.then(tell).catch(() => undefined); // the store cannot be written: nobody is told
  }, LOOK_MS).unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await telling;
      if (isTold) await rm(file, { force: true });
    },
  };
}

/** Watches whether a daemon of this machine tells that Nix waits for NARs. */
export class NixWaits implements AsyncDisposable {
  readonly #file: string;
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void>;
  #isWaiting = false;

  private constructor(file: string) {
    this.#file = file;
    this.#looking = this.#look();
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(() => this.#look());
    }, LOOK_MS).unref();
  }

  static async watch(store: FileStore): Promise<NixWaits> {
    return new NixWaits(await fileOf(store));
  }

  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    const stats = await stat(this.#file).catch(() => undefined);
    // The clock may have been set back since then.
    this.#isWaiting = stats !== undefined && Math.abs(Date.now() - stats.mtimeMs) < FRESH_MS;
  }
}

/** Machines that share a store have lines of their own. */
async function fileOf(store: FileStore): Promise<string> {
  return join(inState(store, 'nix-waits'), machineOf(await ownName()));
}

async function renew(file: string): Promise<void> {
  const now = new Date();
  await utimes(file, now, now).catch(async () => {
    await makeFolder(join(file, '..'));
    await writeFile(file, '');
  });
}
