import { availableParallelism } from 'node:os';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { CopyRequest } from '../../nix/programs/nix-copy.ts';
import { NixWorker } from '../../nix/programs/worker.ts';

/** Paths that are imported at a time, one for each processor, between these. A large NAR must not hold up all others. */
const MIN_AT_A_TIME = 2;
const MAX_AT_A_TIME = 8;
/** Time after which the rest is left to `nix copy`: this, in milliseconds, and that of a slow disk, in bytes for each. */
const LIMIT_MS = 120_000;
const SLOW_BYTES_PER_MS = 500;

/** Returns the time, in milliseconds, after which the import of a path is given up. */
export function limitMsOf({ narSize }: Pick<NarInfo, 'narSize'>): number {
  return LIMIT_MS + narSize / SLOW_BYTES_PER_MS;
}

export interface ImportWorkersOptions extends Pick<CopyRequest, 'to' | 'trustedPublicKeys' | 'signal'> {
  /** URL of the cache that Nix takes paths from. */
  readonly cache: string;
  /** Socket of the running Nix daemon. Default: Nix works on the store itself. */
  readonly socket?: string | undefined;
}

/**
 * Imports single paths over connections to Nix that stay open: starting Nix takes 30 ms. Nix decodes each NAR in the
 * process of its connection.
 */
export class ImportWorkers implements AsyncDisposable {
  readonly #options: ImportWorkersOptions;
  /** Paths that may be imported at a time, besides those whose NARs are arriving. */
  readonly atATime = Math.min(MAX_AT_A_TIME, Math.max(MIN_AT_A_TIME, availableParallelism()));
  readonly #max: number;
  readonly #idle: NixWorker[] = [];
  readonly #all = new Set<NixWorker>();
  #opening: Promise<void> | undefined;
  #isUsable = true;
  /** True once Nix has taken a path. */
  #isProven = false;

  /** @param arriving connections for paths whose NARs are arriving, more than {@link atATime} */
  constructor(options: ImportWorkersOptions, arriving: number) {
    this.#options = options;
    this.#max = this.atATime + arriving;
  }

  /** True if a path can be imported now. */
  get isFree(): boolean {
    return this.#idle.length > 0;
  }

  /** False if Nix cannot be talked to, or has not taken the first path: it may be unable to read the cache. */
  get isUsable(): boolean {
    return this.#isUsable;
  }

  /**
   * Opens another connection, if one may be opened now: two must not create the same store. Never fails.
   *
   * @returns undefined if there are enough, or one is being opened
   */
  openMore(): Promise<void> | undefined {
    if (!this.#isUsable || this.#opening !== undefined || this.#all.size >= this.#max) return undefined;
    this.#opening = this.#openOne().finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  /**
   * Imports a path. Call it if a connection {@link isFree}.
   *
   * @param info its references are valid
   * @param cached resolves once it is in the cache
   * @param late gives it up when aborted. Default: that is done after {@link limitMsOf}
   * @throws as {@link NixWorker.ensurePath}; what `cached` throws
   */
  async add(info: Pick<NarInfo, 'storePath' | 'narSize'>, cached: Promise<void>, late?: AbortSignal): Promise<void> {
    const worker = this.#idle.pop();
    if (worker === undefined) throw new TypeError('no connection is free');
    const end = (): void => void worker[Symbol.asyncDispose]();
    late?.addEventListener('abort', end, { once: true });
    try {
      await cached;
      await worker.ensurePath(info.storePath, late === undefined ? limitMsOf(info) : undefined);
      this.#isProven = true;
      this.#idle.push(worker);
    } catch (error) {
      if (!this.#isProven) this.#isUsable = false;
      this.#all.delete(worker);
      await worker[Symbol.asyncDispose](); // it may hold the lock of the path
      throw error;
    } finally {
      late?.removeEventListener('abort', end);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isUsable = false;
    await this.#opening;
    await Promise.all(Array.from(this.#all, (worker) => worker[Symbol.asyncDispose]()));
  }

  async #openOne(): Promise<void> {
    const { to: store, trustedPublicKeys, cache: substituter, socket, signal } = this.#options;
    try {
      const how = { store, socket, trustedPublicKeys, substituter, signal, limitMs: LIMIT_MS };
      const worker = await NixWorker.open(how);
      this.#all.add(worker);
      this.#idle.push(worker);
    } catch {
      if (this.#all.size === 0) this.#isUsable = false; // `nix copy` finds the fault
    }
  }
}
