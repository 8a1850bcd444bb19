import type { FileHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { ArrivingFeed } from '../../store/arriving-feed.ts';
import type { ImportFolder } from '../../store/import-folder.ts';
import type { PartialNar } from '../../store/partial.ts';
import { limitMsOf, type ImportWorkers } from './import-workers.ts';

/** NARs that Nix reads while they arrive, each over a connection of its own. */
export const MAX_ARRIVING = 2;

interface ArrivingImport {
  readonly feed: ArrivingFeed;
  /** Gives it up. */
  readonly late: AbortController;
  /** Resolves with false if Nix has not taken the path. */
  readonly taken: Promise<boolean>;
}

/**
 * Imports large NARs while they arrive: Nix reads each from a FIFO, and so is done soon after its last byte. If Nix does
 * not take a path in this way, the path is imported like any other, and no other NAR is given to Nix while it arrives.
 */
export class ArrivingImports implements AsyncDisposable {
  readonly #folder: ImportFolder;
  readonly #workers: ImportWorkers;
  readonly #fifos: string[];
  readonly #running = new Map<StorePath, ArrivingImport>();

  private constructor(folder: ImportFolder, workers: ImportWorkers, fifos: string[]) {
    this.#folder = folder;
    this.#workers = workers;
    this.#fifos = fifos;
  }

  /** Never fails: without FIFOs, nothing is imported in this way. */
  static async open(folder: ImportFolder, workers: ImportWorkers): Promise<ArrivingImports> {
    return new ArrivingImports(folder, workers, await folder.makeFifos(MAX_ARRIVING).catch(() => []));
  }

  /** True if another NAR may be begun. */
  get isFree(): boolean {
    return this.#fifos.length > 0;
  }

  has(path: StorePath): boolean {
    return this.#running.has(path);
  }

  /** Begins with a NAR. Call it if a connection is free, too. @param info its references are valid */
  begin(info: NarInfo, partial: PartialNar): void {
    const fifo = this.#fifos.pop();
    if (fifo === undefined) throw new TypeError('no FIFO is free');
    let feed: ArrivingFeed;
    try {
      feed = new ArrivingFeed(partial, fifo);
    } catch {
      this.#fifos.length = 0; // the path is imported once its NAR is there
      return;
    }
    const late = new AbortController();
    const taken = this.#workers.add(info, this.#folder.addArriving(info, fifo), late.signal).then(
      () => true,
      () => false,
    );
    void taken.then(async (isTaken) => {
      if (isTaken) {
        await feed[Symbol.asyncDispose]();
        this.#fifos.push(fifo);
      } else {
        this.#fifos.length = 0;
        await feed.abandon();
      }
    });
    partial.follow(() => void feed.run());
    void feed.run();
    this.#running.set(info.storePath, { feed, late, taken });
  }

  /** Lets Nix have the rest of a complete NAR. @returns false if Nix has not taken the path */
  async finish(info: NarInfo, fileHash: FileHash): Promise<boolean> {
    const arriving = this.#running.get(info.storePath);
    if (arriving === undefined) return false;
    const { feed, late, taken } = arriving;
    const timer = setTimeout(() => late.abort(), limitMsOf(info)); // now Nix waits for nobody
    await feed.finish(fileHash);
    const isTaken = await taken;
    clearTimeout(timer);
    this.#running.delete(info.storePath);
    return isTaken;
  }

  /** Ends those whose NARs have not arrived. */
  async endOthers(arrived: (path: StorePath) => boolean): Promise<void> {
    const others = [...this.#running].filter(([path]) => !arrived(path));
    await Promise.all(
      others.map(async ([path, { feed, late, taken }]) => {
        await feed.abandon();
        late.abort(); // it may wait for another Nix that has the lock of the path
        await taken;
        this.#running.delete(path);
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endOthers(() => false);
  }
}
