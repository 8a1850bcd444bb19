import type { CopyRequest } from '../nix/nix-copy.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { NixWorker } from '../nix/worker.ts';

/** Connections: one more, so that a large NAR does not hold up the others. */
const WORKERS = 2;
/** Time without progress after which the rest is left to `nix copy`, in milliseconds. A slow disk is synced within it. */
const IDLE_MS = 120_000;

/**
 * Imports single NARs over connections to Nix that stay open: a path takes a few milliseconds, and `nix copy` 30 ms to
 * start.
 */
export class ImportWorkers implements AsyncDisposable {
  readonly #options: Pick<CopyRequest, 'to' | 'trustedPublicKeys' | 'signal'>;
  readonly #idle: NixWorker[] = [];
  readonly #all: NixWorker[] = [];
  #opening = Promise.resolve();
  #isUsable = false;

  constructor(options: Pick<CopyRequest, 'to' | 'trustedPublicKeys' | 'signal'>) {
    this.#options = options;
  }

  /** True if a NAR can be imported now. */
  get isFree(): boolean {
    return this.#idle.length > 0;
  }

  /** True until the first is opened, or has failed to. Meanwhile, it may create the store. */
  get isOpening(): boolean {
    return this.#isUsable && this.#all.length === 0;
  }

  /** False until they are opened, and if this Nix cannot be talked to. */
  get isUsable(): boolean {
    return this.#isUsable;
  }

  /**
   * Opens the connections, one after another: two must not create the same store. Returns a promise of that. Never
   * fails.
   */
  open(): Promise<void>[] {
    this.#isUsable = true;
    return Array.from({ length: WORKERS }, () => (this.#opening = this.#opening.then(() => this.#openOne())));
  }

  /**
   * Imports a path. Call it if a connection {@link isFree}.
   *
   * @param file its uncompressed NAR
   * @throws as {@link NixWorker.addNar}
   */
  async add(info: NarInfo, file: string): Promise<void> {
    const worker = this.#idle.pop();
    if (worker === undefined) throw new TypeError('no connection is free');
    await worker.addNar(info, file); // after an error, it is not used again
    this.#idle.push(worker);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isUsable = false;
    await this.#opening;
    await Promise.all(this.#all.map((worker) => worker[Symbol.asyncDispose]()));
  }

  async #openOne(): Promise<void> {
    if (!this.#isUsable) return;
    const { to: store, trustedPublicKeys, signal } = this.#options;
    try {
      const worker = await NixWorker.open({ store, trustedPublicKeys, signal, idleMs: IDLE_MS });
      this.#all.push(worker);
      this.#idle.push(worker);
    } catch {
      this.#isUsable = this.#all.length > 0; // `nix copy` finds the fault
    }
  }
}
