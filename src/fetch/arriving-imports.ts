import type { FileHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { ArrivingFeed } from '../store/arriving-feed.ts';
import type { ImportFolder } from '../store/import-folder.ts';
import type { PartialNar } from '../store/partial.ts';
import type { ImportWorkers } from './import-workers.ts';

/** NARs that Nix reads while they arrive, each over a connection of its own. */
export const MAX_ARRIVING = 2;

interface ArrivingImport {
  readonly feed: ArrivingFeed;
  /** Resolves with false if Nix has not taken the path. */
  readonly taken: Promise<boolean>;
}

/**
 * Imports large NARs while they arrive: Nix reads each from a FIFO, and so is done soon after its last byte. A path that
 * Nix has not taken in this way is imported as any other. After the first, no more are begun.
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
    const feed = new ArrivingFeed(partial, fifo);
    const taken = this.#workers.add(info, this.#folder.addArriving(info, fifo), Infinity).then(
      () => true,
      () => false,
    );
    void taken.then(async (isTaken) => {
      if (isTaken) this.#fifos.push(fifo);
      else this.#fifos.length = 0;
      await feed[Symbol.asyncDispose]();
    });
    partial.follow(() => void feed.run());
    void feed.run();
    this.#running.set(info.storePath, { feed, taken });
  }

  /** Lets Nix have the rest of a complete NAR. @returns false if Nix has not taken the path */
  async finish(path: StorePath, fileHash: FileHash): Promise<boolean> {
    const arriving = this.#running.get(path);
    if (arriving === undefined) return false;
    const { feed, taken } = arriving;
    await feed.finish(fileHash);
    const isTaken = await taken;
    this.#running.delete(path);
    return isTaken;
  }

  /** Ends those whose NARs have not arrived. */
  async endOthers(arrived: (path: StorePath) => boolean): Promise<void> {
    const others = [...this.#running].filter(([path]) => !arrived(path));
    await Promise.all(
      others.map(async ([path, { feed, taken }]) => {
        await feed[Symbol.asyncDispose]();
        await taken;
        this.#running.delete(path);
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endOthers(() => false);
  }
}
