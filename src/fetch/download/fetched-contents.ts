import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import { isAddressedBesideNarHash } from '../../nix/content-address.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { BackgroundReader } from '../../serve/background-reader.ts';
import type { FoundNarHash } from '../../store/catalogue/catalogue-entry.ts';
import { findNarHash } from '../../store/hashing/find-nar-hash.ts';
import { narContentsOf, type NarContents } from '../../store/hashing/hash-nar.ts';
import { faultOfContents } from '../../store/damage/contents.ts';
import type { Closure } from '../walk/closure.ts';
import type { Tell } from '../events.ts';
import type { NarJob } from '../plan/job.ts';
import type { ContentsFault } from '../../store/damage/fault.ts';

/**
 * Limit on contents that a fetch without an import checks before it ends: a few tenths of a second of one processor.
 */
const SMALL_BYTES = 8 * 1024 * 1024;
const SMALL_NARS = 64;

/**
 * The part of the fetched files that is decompressed before the fetch ends. `small`: everything, if it is at most 64
 * NARs of 8 MiB together; otherwise the daemon, `publish` and `verify --deep` check the rest. `all`: everything.
 */
export type LooksInto = 'small' | 'all';

/** Limit on small files that are decompressed at a time, each by its own program. */
const AT_ONCE = availableParallelism();

/** A NAR that was fetched, or was in the store without a line in the catalogue. */
interface Fetched {
  readonly job: NarJob;
  /** Absolute path of the file, whose SHA-256 was checked. */
  readonly path: string;
  /** The narinfos that name it, the job's first. */
  readonly infos: readonly NarInfo[];
}

interface Looked {
  readonly fetched: Fetched;
  /** Undefined if the file could not be read. */
  readonly narHash: FoundNarHash | undefined;
}

/** A narinfo that names a file with other contents than the signed ones. */
export interface WrongContents {
  readonly info: NarInfo;
  readonly fault: ContentsFault;
}

/**
 * Checks NARs that no import checks. Only NarHash is signed, so the file with a narinfo's FileHash may have any
 * contents. With `all`, begins while other NARs are being fetched, with the remaining processor time.
 */
export class FetchedContents implements AsyncDisposable {
  readonly #looksInto: LooksInto;
  readonly #tell: Tell;
  readonly #signal: AbortSignal;
  readonly #reader = new BackgroundReader();
  readonly #now = new PQueue({ concurrency: AT_ONCE });
  readonly #waiting: Fetched[] = [];
  readonly #reading: Promise<Looked>[] = [];
  #hasWarned = false;
  readonly #abort = (): void => void this.#reader.close();

  constructor(looksInto: LooksInto, tell: Tell, signal: AbortSignal) {
    this.#looksInto = looksInto;
    this.#tell = tell;
    this.#signal = signal;
    signal.addEventListener('abort', this.#abort);
  }

  /** Adds a NAR as soon as it is in the store. */
  add(job: NarJob, path: string, closure: Closure): void {
    const others = job.storePaths.filter((one) => one !== job.info.storePath);
    const infos = [job.info, ...others.flatMap((one) => closure.get(storeHashOf(one)) ?? [])];
    const fetched = { job, path, infos };
    if (this.#looksInto === 'all')
      this.#reading.push(this.#look(fetched, (contents) => this.#readLater(path, contents)));
    else this.#waiting.push(fetched);
  }

  /**
   * Waits until everything is checked. Removes fetched files that are right for no narinfo. Files that could not be
   * read, for lack of a program or time, are in neither list.
   *
   * @param found jobs whose file was already in the store. Such a file stays, since it may belong to another path
   * @param named files that other paths have been found to have: a liar may name the file of another path
   */
  async finish(
    found: readonly NarJob[],
    named: ReadonlySet<FileHash | undefined>,
  ): Promise<{ sound: readonly NarInfo[]; wrong: readonly WrongContents[] }> {
    const bytes = this.#waiting.reduce((sum, { job }) => sum + job.sizeBytes, 0);
    if (bytes <= SMALL_BYTES && this.#waiting.length <= SMALL_NARS)
      for (const fetched of this.#waiting)
        this.#reading.push(this.#look(fetched, (contents) => this.#readNow(fetched.path, contents)));
    const sound: NarInfo[] = [];
    const wrong: WrongContents[] = [];
    for (const { fetched, narHash } of await Promise.all(this.#reading)) {
      if (narHash === undefined) continue;
      let isRight = false;
      for (const info of fetched.infos) {
        const fault = faultOfContents(narHash, info);
        if (fault !== undefined) {
          wrong.push({ info, fault });
          continue;
        }
        isRight = true;
        // If several paths have this file, each has its own content address. They are checked again when the file is
        // served.
        if (fetched.infos.length === 1 || !isAddressedBesideNarHash(info)) sound.push(info);
      }
      const belongs = found.includes(fetched.job) || named.has(fetched.job.fileHash);
      if (!isRight && !belongs) await rm(fetched.path, { force: true });
    }
    return { sound, wrong };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#abort);
    await this.#reader.close();
  }

  async #look(fetched: Fetched, read: (contents: NarContents) => Promise<FoundNarHash | undefined>): Promise<Looked> {
    const narSize = Math.max(...fetched.infos.map((info) => info.narSize));
    const { address, ...contents } = narContentsOf(fetched.job.info);
    try {
      return {
        fetched,
        narHash: await read({ ...contents, narSize, ...(fetched.infos.length === 1 ? { address } : {}) }),
      };
    } catch (error) {
      if (isNarswarmError(error, 'NIX_MISSING') && !this.#hasWarned) {
        this.#hasWarned = true;
        this.#tell({ type: 'warning', warning: { kind: 'unchecked-contents', error, of: 'fetch' } });
      }
      return { fetched, narHash: undefined }; // also after an interruption
    }
  }

  async #readLater(path: string, contents: NarContents): Promise<FoundNarHash | undefined> {
    const found = await this.#reader.read(path, contents, 'later');
    return found === undefined || 'reason' in found ? undefined : found.narHash;
  }

  /** Reads a small file without a thread, which would take longer to start. */
  #readNow(path: string, contents: NarContents): Promise<FoundNarHash | undefined> {
    return this.#now.add(() => findNarHash(path, contents, this.#signal));
  }
}

/** Reports that a path's NAR has other contents than the signed ones, and which source named this file. */
export function lackOfContents({ info, fault }: WrongContents, origin = 'an unknown source'): NarswarmError {
  const { storePath: path } = info;
  const says = `does not have the signed contents; its narinfo came from ${origin}: name another cache with --from`;
  return new NarswarmError('HASH_MISMATCH', `the NAR of ${path} ${says}`, {
    facts: { ...fault, path, source: origin, why: `its NAR ${says}` },
  });
}
