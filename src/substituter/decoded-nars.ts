import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { open, unlink, type FileHandle } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import PQueue from 'p-queue';
import { freeBytesAt } from '../disk/free-bytes.ts';
import { makeFolder } from '../disk/make-folder.ts';
import type { FileHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { namedFile } from '../fetch/plan/named-file.ts';
import type { FileStore } from '../store/file-store.ts';
import type { Arrival } from './arrival.ts';
import { DecodedNar } from './decoded-nar.ts';
import { bytesOf } from './nar-body.ts';
import { temporaryBeside } from '../disk/replace.ts';

/** Smaller NARs are not decoded here: to start xz would take as long as Nix takes for them. */
const MIN_BYTES = 1024 ** 2;
/** Bounds on all decoded NARs: an eighth of the memory, between these. */
const MIN_ROOM_BYTES = 128 * 1024 ** 2;
const MAX_ROOM_BYTES = 1024 ** 3;
/** NARs that are decoded before a client asks for them. An xz takes 10 MB of memory. */
const MAX_AHEAD = 8;
const CHUNK_BYTES = 512 * 1024;

/** A NAR for a client. */
export interface GivenNar {
  readonly nar: DecodedNar;
  /** Called once the answer has ended, however it has. */
  readonly leave: () => void;
}

/** A NAR file in the store, or one that is arriving. */
export type NarFile =
  | { readonly kind: 'here'; readonly path: string; readonly mtimeMs?: number | undefined }
  | { readonly kind: 'arriving'; readonly arrival: Arrival };

export interface DecodedNarsOptions {
  readonly store: FileStore;
  /** Bound on all decoded NARs together, in bytes. Default: an eighth of the memory, from 128 MiB to 1 GiB. */
  readonly roomBytes?: number | undefined;
}

/**
 * The NARs that are decoded for a Nix that would decode one after another. Those that arrive are decoded before it asks
 * for them, on all processors. Each takes room on the disk until a client has received it.
 */
export class DecodedNars implements AsyncDisposable {
  readonly #store: FileStore;
  readonly #roomBytes: number;
  readonly #turns = new PQueue({ concurrency: availableParallelism() });
  readonly #nars = new Map<FileHash, DecodedNar>();
  readonly #ending = new Set<Promise<void>>();
  /** Arrivals that wait for room. */
  #waiting: Arrival[] = [];
  #isAhead = false;
  /** True after xz or the disk has failed, until {@link endUnread}. */
  #hasFailed = false;
  #heldBytes = 0;
  #hasXz: Promise<boolean> | undefined;

  constructor({ store, roomBytes }: DecodedNarsOptions) {
    this.#store = store;
    this.#roomBytes = roomBytes ?? Math.min(MAX_ROOM_BYTES, Math.max(MIN_ROOM_BYTES, totalmem() / 8));
  }

  /** Number of NARs that take room. */
  get size(): number {
    return this.#nars.size;
  }

  /** True while a client waits for one of them or receives it. */
  get hasReaders(): boolean {
    return Array.from(this.#nars.values()).some(({ hasReaders }) => hasReaders);
  }

  /** Returns true if a client should get this NAR decoded. NARs that arrive are then decoded ahead. */
  async mayDecode(info: NarInfo): Promise<boolean> {
    if (this.#hasFailed || !this.#isFit(info)) return false;
    this.#hasXz ??= runsXz();
    if (!(await this.#hasXz) || !(await this.#hasDisk())) return false;
    this.#isAhead = true;
    return true;
  }

  /** Learns that a NAR has begun to arrive. */
  follow(arrival: Arrival): void {
    if (!this.#isAhead || !this.#isFit(arrival.info)) return;
    this.#waiting.push(arrival);
    this.#beginNext();
  }

  /** Returns a NAR for a client, and keeps it until that has left. Undefined if there is no room for it. */
  get(info: NarInfo, file: NarFile): GivenNar | undefined {
    const { fileHash } = namedFile(info) ?? {};
    if (fileHash === undefined || info.compression !== 'xz') return undefined;
    const known = this.#nars.get(fileHash);
    if (known === undefined)
      for (const [hash, nar] of this.#nars) if (!this.#hasRoom(info) && !nar.hasReaders) this.#drop(hash, nar);
    const nar = known ?? (this.#hasRoom(info) ? this.#begin(fileHash, info, file) : undefined);
    return nar && { nar, leave: nar.enter() };
  }

  /** Ends the decoders that no client reads from. Nothing is decoded ahead until a client asks again. */
  endUnread(): void {
    this.#isAhead = false;
    this.#hasFailed = false;
    this.#waiting = [];
    for (const [hash, nar] of this.#nars) if (!nar.hasReaders) this.#drop(hash, nar);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.endUnread();
    for (const [hash, nar] of this.#nars) this.#drop(hash, nar);
    await Promise.all(this.#ending);
  }

  #isFit({ compression, narSize }: NarInfo): boolean {
    return compression === 'xz' && narSize >= MIN_BYTES && narSize <= this.#roomBytes / 2;
  }

  #hasRoom({ narSize }: NarInfo): boolean {
    return this.#heldBytes + narSize <= this.#roomBytes;
  }

  /** Returns true if the disk has room for the decoded NARs, and as much again. */
  async #hasDisk(): Promise<boolean> {
    const freeBytes = await freeBytesAt(this.#store.dir).catch(() => 0);
    return freeBytes === undefined || freeBytes > 2 * this.#roomBytes;
  }

  /**
   * Makes a file without a name, so it disappears however this process ends. Until its name is removed, it has that of
   * a temporary file.
   */
  async #makeFile(): Promise<FileHandle> {
    const { stateDir } = this.#store;
    await makeFolder(stateDir);
    const path = temporaryBeside(join(stateDir, 'decoded'));
    const file = await open(path, 'wx+', 0o600);
    await unlink(path);
    return file;
  }

  /** Begins with arrivals that wait, if there is room. */
  #beginNext(): void {
    for (;;) {
      const [arrival] = this.#waiting;
      const ahead = Array.from(this.#nars.values()).filter((nar) => !nar.hasEnded && !nar.hasReaders).length;
      if (arrival === undefined || ahead >= MAX_AHEAD || !this.#hasRoom(arrival.info)) return;
      this.#waiting.shift();
      const { info, fileHash, failure } = arrival;
      if (failure === undefined && !this.#nars.has(fileHash))
        this.#begin(fileHash, info, { kind: 'arriving', arrival });
    }
  }

  #begin(fileHash: FileHash, info: NarInfo, file: NarFile): DecodedNar {
    this.#heldBytes += info.narSize;
    const nar = new DecodedNar(info, {
      source: () =>
        file.kind === 'here' ? createReadStream(file.path, { highWaterMark: CHUNK_BYTES }) : bytesOf(file.arrival),
      makeFile: () => this.#makeFile(),
      turns: this.#turns,
      onEnded: () => {
        if (nar.isUndecodable) this.#hasFailed = true;
        if (nar.failure !== undefined && !nar.hasReaders) this.#drop(fileHash, nar);
        this.#beginNext();
      },
      onLeft: () => this.#drop(fileHash, nar),
    });
    this.#nars.set(fileHash, nar);
    return nar;
  }

  #drop(fileHash: FileHash, nar: DecodedNar): void {
    if (this.#nars.get(fileHash) !== nar) return; // dropped before; another may have taken its place
    this.#nars.delete(fileHash);
    this.#heldBytes -= nar.info.narSize;
    const ending = nar[Symbol.asyncDispose]().finally(() => {
      this.#ending.delete(ending);
      this.#beginNext();
    });
    this.#ending.add(ending);
  }
}

/** Returns true if there is an xz. */
async function runsXz(): Promise<boolean> {
  return promisify(execFile)('xz', ['--version']).then(
    () => true,
    () => false,
  );
}
