/**
 * Speaks the protocol of the Nix daemon (Nix: src/libstore/daemon.cc) with `nix-daemon --stdio`, which works on the store
 * itself or passes on to the running daemon, as this user's Nix does. Starting Nix takes 30 ms, a request less than one.
 */
import { open } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { NarswarmError } from '../errors.ts';
import { sha256Bytes } from './hash.ts';
import type { NarInfo } from './narinfo.ts';
import type { StoreCallOptions } from './run-nix.ts';
import { startWorker, type ServeProcess } from './serve-process.ts';
import { storePathFromBaseName } from './store-path.ts';
import { withinMs } from '../within.ts';
import { encodeNumber, encodeString, encodeStrings, WireReader } from './wire-format.ts';

const HELLO = 0x6e_69_78_63;
const HELLO_BACK = 0x64_78_69_6f;
/** The protocol of Nix 2.15, the newest without a list of features. Nix 2.8 has 1.34. */
const VERSION = 0x1_23;
const WITH_NIX_VERSION = 0x1_21;
const WITH_TRUST = 0x1_23;
/** The first that takes NARs in frames (Nix 2.4). */
const WITH_FRAMES = 0x1_17;
/** The first that sends more of an error than its message. */
const WITH_ERROR_INFO = 0x1_1a;

const ADD_INDIRECT_ROOT = 12;
const SET_OPTIONS = 19;
const ADD_TO_STORE_NAR = 39;

/** Messages before the answer to a request. */
const LAST = 0x61_6c_74_73;
const LOG_LINE = 0x6f_6c_6d_67;
const ERROR = 0x63_78_74_70;
const START_ACTIVITY = 0x53_54_52_54;
const STOP_ACTIVITY = 0x53_54_4f_50;
const RESULT = 0x52_53_4c_54;

const FRAME_BYTES = 256 * 1024;
/** The longest time that a timer can wait, in milliseconds: 24 days. */
const FOREVER_MS = 2 ** 31 - 1;

export interface WorkerOptions extends StoreCallOptions {
  /** Extra keys (`<name>:<base64>`) to trust. A Nix daemon accepts them only from its trusted users. Default: none. */
  readonly trustedPublicKeys?: readonly string[];
  /** A request fails if Nix neither takes a frame of a NAR nor answers for this time, in milliseconds. Default: no limit. */
  readonly idleMs?: number;
}

/** A connection to Nix. One request at a time. After an error, only its disposal is allowed. */
export class NixWorker implements AsyncDisposable {
  readonly #process: ServeProcess;
  readonly #reader: WireReader;
  readonly #version: number;
  readonly #idleMs: number;
  #buffer: Buffer | undefined;

  private constructor(process: ServeProcess, reader: WireReader, version: number, idleMs: number) {
    this.#process = process;
    this.#reader = reader;
    this.#version = version;
    this.#idleMs = idleMs;
  }

  /**
   * Starts Nix and agrees on the protocol.
   *
   * @param options.store a store URI. Undefined: Nix's default store
   * @throws NarswarmError `NIX_FAILED`, also if Nix is not installed; the signal's reason
   */
  static async open(options: WorkerOptions = {}): Promise<NixWorker> {
    options.signal?.throwIfAborted();
    const nix = startWorker(options);
    const reader = new WireReader(nix.stdout);
    const { idleMs = FOREVER_MS } = options;
    try {
      const worker = new NixWorker(nix, reader, await inTime(idleMs, agree(nix.stdin, reader)), idleMs);
      if (options.trustedPublicKeys?.length) await worker.#trust(options.trustedPublicKeys);
      return worker;
    } catch (error) {
      const failure = await asFailure(error, nix);
      await nix.end();
      throw failure;
    }
  }

  /**
   * Registers a symbolic link as an indirect GC root. It may lead to a path that is not valid yet.
   *
   * @param link its absolute path
   * @throws as {@link open}
   */
  async addIndirectRoot(link: string): Promise<void> {
    await this.#request(ADD_INDIRECT_ROOT, [encodeString(link)]);
    await this.#reader.number(); // always 1
  }

  /**
   * Imports a path. Nix checks its signature and its NarHash.
   *
   * @param info its references are valid
   * @param file the uncompressed NAR, of NarSize bytes
   * @throws as {@link open}; the system's error
   */
  async addNar(info: NarInfo, file: string): Promise<void> {
    if (this.#version < WITH_FRAMES) throw unknownProtocol();
    const toPath = (baseName: string): string => storePathFromBaseName(baseName);
    const { storePath, deriver, narHash, narSize, references, signatures, ca = '' } = info;
    await this.#request(
      ADD_TO_STORE_NAR,
      [
        encodeString(storePath),
        encodeString(deriver === undefined ? '' : toPath(deriver)),
        encodeString(Buffer.from(sha256Bytes(narHash)).toString('hex')),
        encodeStrings(references.map(toPath)),
        encodeNumber(0), // the time of registration is now
        encodeNumber(narSize),
        encodeNumber(0), // it was not built here
        encodeStrings(signatures),
        encodeString(ca),
        encodeNumber(0), // a valid path stays as it is
        encodeNumber(0), // signatures are checked
      ],
      () => this.#sendFrames(file),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.end();
  }

  /** Lets Nix trust keys, as `nix copy --option extra-trusted-public-keys` does. */
  async #trust(keys: readonly string[]): Promise<void> {
    const [no, one] = [encodeNumber(0), encodeNumber(1)];
    const settings = [no, no, no, no, one, no, one, no, no, no, one, no];
    const pairs = [encodeString('extra-trusted-public-keys'), encodeString(keys.join(' '))];
    await this.#request(SET_OPTIONS, [...settings, one, ...pairs]);
  }

  /** Sends a request and reads up to its result. */
  async #request(operation: number, parts: readonly Buffer[], sendMore?: () => Promise<void>): Promise<void> {
    try {
      const answer = finish(this.#reader, this.#version);
      answer.catch(() => undefined); // awaited below
      await this.#write(Buffer.concat([encodeNumber(operation), ...parts]));
      // Nix may refuse a path before it has read the NAR. Then it reads no more.
      await Promise.race([sendMore?.(), answer]);
      await inTime(this.#idleMs, answer);
    } catch (error) {
      throw await asFailure(error, this.#process);
    }
  }

  async #sendFrames(file: string): Promise<void> {
    await using handle = await open(file);
    const buffer = (this.#buffer ??= Buffer.allocUnsafe(FRAME_BYTES));
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, FRAME_BYTES);
      this.#process.stdin.write(encodeNumber(bytesRead));
      if (bytesRead === 0) return; // an empty frame is the end
      await this.#write(buffer.subarray(0, bytesRead));
    }
  }

  /** Resolves once Nix takes more. */
  async #write(bytes: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#process.stdin.write(bytes, (error) => (error ? reject(error) : resolve()));
    await inTime(this.#idleMs, promise);
  }
}

/** @throws NarswarmError `NIX_FAILED` if the work takes longer */
async function inTime<T>(idleMs: number, work: Promise<T>): Promise<T> {
  const done = await withinMs(
    idleMs,
    work.then((value) => ({ value })),
  );
  if (done === undefined) throw new NarswarmError('NIX_FAILED', `Nix did nothing for ${idleMs / 1000} s`);
  return done.value;
}

/** Nix's own words about a request. */
class RefusedByNix extends Error {}

async function agree(stdin: Writable, reader: WireReader): Promise<number> {
  stdin.write(encodeNumber(HELLO));
  if ((await reader.number()) !== HELLO_BACK) throw unknownProtocol();
  const version = Math.min(await reader.number(), VERSION);
  const neitherAffinityNorReserve = [encodeNumber(0), encodeNumber(0)];
  stdin.write(Buffer.concat([encodeNumber(version), ...neitherAffinityNorReserve]));
  if (version >= WITH_NIX_VERSION) await reader.string();
  if (version >= WITH_TRUST) await reader.number();
  await finish(reader, version);
  return version;
}

/** Reads up to the end of a request. */
async function finish(reader: WireReader, version: number): Promise<void> {
  for (;;) {
    const message = await reader.number();
    if (message === LAST) return;
    if (message === ERROR) throw await readError(reader, version);
    if (message === LOG_LINE) await reader.string();
    else if (message === START_ACTIVITY) await skipActivity(reader);
    else if (message === STOP_ACTIVITY) await reader.number();
    else if (message === RESULT) {
      for (const _ of ['id', 'type']) await reader.number();
      await skipFields(reader);
    } else throw unknownProtocol();
  }
}

async function skipActivity(reader: WireReader): Promise<void> {
  for (const _ of ['id', 'level', 'type']) await reader.number();
  await reader.string();
  await skipFields(reader);
  await reader.number(); // parent
}

async function skipFields(reader: WireReader): Promise<void> {
  for (let left = await reader.number(); left > 0; left--) {
    const isText = (await reader.number()) === 1;
    await (isText ? reader.string() : reader.number());
  }
}

/** Reads up to the message. Nix may go on with traces: after an error, the connection is not used again. */
async function readError(reader: WireReader, version: number): Promise<RefusedByNix> {
  if (version < WITH_ERROR_INFO) return new RefusedByNix(await reader.string());
  await reader.string(); // "Error"
  await reader.number(); // level
  await reader.string(); // name
  return new RefusedByNix(await reader.string());
}

async function asFailure(error: unknown, nix: ServeProcess): Promise<unknown> {
  if (!(error instanceof RefusedByNix)) return nix.failure(error);
  return new NarswarmError('NIX_FAILED', `nix failed: ${error.message}`, { cause: error });
}

function unknownProtocol(): NarswarmError {
  return new NarswarmError('NIX_FAILED', 'nix-daemon --stdio does not speak a protocol that narswarm knows');
}
