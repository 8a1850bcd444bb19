/**
 * Speaks the protocol of the Nix daemon (Nix: src/libstore/daemon.cc) with the running daemon, or with `nix-daemon --stdio`,
 * which works on the store itself. Starting Nix takes 30 ms, a request less than one.
 */
import type { Writable } from 'node:stream';
import { NarswarmError } from '../../errors.ts';
import type { StorePath } from '../brands.ts';
import type { StoreCallOptions } from './run-nix.ts';
import { connectDaemon } from './daemon-socket.ts';
import { startWorker, type ServeProcess } from './serve-process.ts';
import { withinMs } from '../../within.ts';
import { encodeNumber, encodeString, WireReader } from './wire-format.ts';

const HELLO = 0x6e_69_78_63;
const HELLO_BACK = 0x64_78_69_6f;
/** The protocol of Nix 2.15, the newest without a list of features. Nix 2.8 has 1.34. */
const VERSION = 0x1_23;
const WITH_NIX_VERSION = 0x1_21;
const WITH_TRUST = 0x1_23;
/** The last in which Nix does not report each 64 KiB of a NAR. These reports take a fifth of an import's processor time. */
const WITHOUT_PROGRESS = 0x1_13;
/** The first that sends more of an error than its message. */
const WITH_ERROR_INFO = 0x1_1a;

const ENSURE_PATH = 10;
const ADD_INDIRECT_ROOT = 12;
const SET_OPTIONS = 19;

/** Messages before the answer to a request. */
const LAST = 0x61_6c_74_73;
const LOG_LINE = 0x6f_6c_6d_67;
const ERROR = 0x63_78_74_70;
const START_ACTIVITY = 0x53_54_52_54;
const STOP_ACTIVITY = 0x53_54_4f_50;
const RESULT = 0x52_53_4c_54;

/** The longest time that a timer can wait, in milliseconds: 24 days. */
const FOREVER_MS = 2 ** 31 - 1;

export interface WorkerOptions extends StoreCallOptions {
  /** Extra keys (`<name>:<base64>`) to trust. A Nix daemon accepts them only from its trusted users. Default: none. */
  readonly trustedPublicKeys?: readonly string[];
  /**
   * URL of the only cache that {@link NixWorker.ensurePath} takes paths from. A Nix daemon accepts it only from its
   * trusted users.
   */
  readonly substituter?: string;
  /**
   * Socket of the running daemon. Default: `nix-daemon --stdio` is started. If the store has a daemon, that passes requests on,
   * but from Nix 2.15 on it keeps the settings to itself.
   */
  readonly socket?: string | undefined;
  /** Bound on the time of any other request, in milliseconds. Default: none. */
  readonly limitMs?: number | undefined;
}

/** A connection to Nix. One request at a time. After an error, only its disposal is allowed. */
export class NixWorker implements AsyncDisposable {
  readonly #process: ServeProcess;
  readonly #reader: WireReader;
  readonly #version: number;
  readonly #limitMs: number;

  private constructor(process: ServeProcess, reader: WireReader, version: number, limitMs: number) {
    this.#process = process;
    this.#reader = reader;
    this.#version = version;
    this.#limitMs = limitMs;
  }

  /**
   * Starts Nix and agrees on the protocol.
   *
   * @param options.store a store URI. Undefined: Nix's default store
   * @throws NarswarmError `NIX_FAILED`, also if Nix is not installed; the signal's reason
   */
  static async open(options: WorkerOptions = {}): Promise<NixWorker> {
    options.signal?.throwIfAborted();
    const nix = options.socket === undefined ? startWorker(options) : connectDaemon(options.socket, options);
    const reader = new WireReader(nix.stdout);
    const { limitMs = FOREVER_MS } = options;
    try {
      const newest = options.substituter === undefined ? VERSION : WITHOUT_PROGRESS;
      const worker = new NixWorker(nix, reader, await inTime(limitMs, agree(nix.stdin, reader, newest)), limitMs);
      const settings = settingsOf(options);
      if (settings.size > 0) await worker.#set(settings);
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
   * Makes a path valid: Nix takes it from the {@link WorkerOptions.substituter}, and checks its signature and NarHash.
   *
   * @param path its references are valid
   * @param limitMs bound on the time, in milliseconds. Default: none
   * @throws as {@link open}
   */
  async ensurePath(path: StorePath, limitMs = FOREVER_MS): Promise<void> {
    await this.#request(ENSURE_PATH, [encodeString(path)], limitMs);
    await this.#reader.number(); // always 1
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.end();
  }

  /** Changes settings of Nix, as `--option NAME VALUE` does. */
  async #set(settings: ReadonlyMap<string, string>): Promise<void> {
    const [no, one] = [encodeNumber(0), encodeNumber(1)];
    // keepFailed, keepGoing, fallback, verbosity, jobs, silence, hook, verboseBuild, log, trace, cores, substitute
    const fixed = [no, no, no, no, one, no, one, no, no, no, one, one];
    const pairs = [...settings].flat().map(encodeString);
    await this.#request(SET_OPTIONS, [...fixed, encodeNumber(settings.size), ...pairs]);
  }

  /** Sends a request and reads up to its result. */
  async #request(operation: number, parts: readonly Buffer[], limitMs = this.#limitMs): Promise<void> {
    try {
      this.#process.stdin.write(Buffer.concat([encodeNumber(operation), ...parts]));
      await inTime(limitMs, finish(this.#reader, this.#version));
    } catch (error) {
      throw await asFailure(error, this.#process);
    }
  }
}

/** @throws NarswarmError `NIX_FAILED` if the work takes longer */
async function inTime<T>(limitMs: number, work: Promise<T>): Promise<T> {
  const done = await withinMs(
    limitMs,
    work.then((value) => ({ value })),
  );
  if (done === undefined) throw new NarswarmError('NIX_FAILED', `Nix has not answered within ${limitMs / 1000} s`);
  return done.value;
}

/** Nix's own words about a request. */
class RefusedByNix extends Error {}

function settingsOf({ trustedPublicKeys = [], substituter }: WorkerOptions): Map<string, string> {
  const settings = new Map<string, string>();
  if (trustedPublicKeys.length > 0) settings.set('extra-trusted-public-keys', trustedPublicKeys.join(' '));
  if (substituter !== undefined) settings.set('substituters', substituter);
  return settings;
}

async function agree(stdin: Writable, reader: WireReader, newest: number): Promise<number> {
  stdin.write(encodeNumber(HELLO));
  if ((await reader.number()) !== HELLO_BACK) throw unknownProtocol();
  const version = Math.min(await reader.number(), newest);
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
