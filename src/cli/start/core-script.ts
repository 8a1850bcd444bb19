import {
  closeSync,
  constants as flags,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import Module, { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, Script } from 'node:vm';
import { crc32 } from 'node:zlib';
import { isOfUserAlone } from '../../config/home.ts';

/** The file of the build with the modules that every fetch loads: rolldown.config.ts. */
const CORE = 'core.js';

/**
 * Loads the core with the functions that an earlier run of the same command has compiled. Node's cache has only the functions
 * that are compiled while a file is loaded. To compile the others takes a fifth of the start of a fetch.
 *
 * The compiled code is saved at an exit with status 0.
 *
 * @param dir a folder of this user alone, since the code in it is run
 * @param command the name of the file, since each command compiles other functions
 * @returns saves the compiled code now instead
 */
export function loadCore(dir: string, command: string): () => void {
  const file = join(dirname(fileURLToPath(import.meta.url)), CORE);
  const source = readOrUndefined(file);
  if (source === undefined) return () => undefined; // a checkout
  const kept = new KeptCode(join(dir, `core-${command}${OF_NODE}`), crc32(source));
  const script = new Script(`(function (exports, require, module, __filename, __dirname) {${source.toString()}\n})`, {
    filename: file,
    cachedData: kept.read(),
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  const require = createRequire(file);
  const module = new Module(file);
  require.cache[file] = module;
  (script.runInThisContext() as CommonJsFunction)(module.exports, require, module, file, dirname(file));
  module.loaded = true;
  const saveAtExit = (status: number): void => {
    if (status === 0) kept.save(script);
  };
  process.once('exit', saveAtExit);
  return () => {
    process.off('exit', saveAtExit);
    kept.save(script);
  };
}

type CommonJsFunction = (exports: unknown, require: NodeJS.Require, module: Module, file: string, dir: string) => void;

const OF_NODE = `-${process.version}-${process.arch}`;
/** Two CRC-32: of the script, of which V8 compares only the length, and of the compiled code, which V8 does not check. */
const HEAD_BYTES = 8;
/** Later runs may have compiled more functions. To save them takes 10 ms. */
const RENEW_AFTER_MS = 24 * 3_600_000;
/** Name of a file that a process writes, with its number. */
const WRITTEN_NAME = /^core-.+\.(\d+)$/;

/** The compiled code of a script in a file. V8 refuses code of another version of V8, or with other flags. */
class KeptCode {
  readonly #file: string;
  readonly #scriptCrc: number;
  /** 0 as long as this command has no file. */
  #ownBytes = 0;

  constructor(file: string, scriptCrc: number) {
    this.#file = file;
    this.#scriptCrc = scriptCrc;
  }

  /** Returns the compiled code. The first time, that of another command: it has many of the same functions. */
  read(): Buffer | undefined {
    const own = this.#read(this.#file);
    this.#ownBytes = own?.length ?? 0;
    if (own !== undefined) return own;
    const dir = dirname(this.#file);
    const others = namesIn(dir).filter((name) => name.startsWith('core-') && name.endsWith(OF_NODE));
    return others.map((name) => this.#read(join(dir, name))).find((code) => code !== undefined);
  }

  /** Returns the code of a file. Undefined if there is none, if it is damaged, of another script, or another user's. */
  #read(file: string): Buffer | undefined {
    const bytes = readOwn(file);
    if (bytes === undefined || bytes.length < HEAD_BYTES) return undefined;
    const code = bytes.subarray(HEAD_BYTES);
    if (bytes.readUInt32LE(0) !== this.#scriptCrc || bytes.readUInt32LE(4) !== crc32(code)) return undefined;
    return code;
  }

  /** Saves the compiled code, unless V8 has accepted the present file, and it is recent. Errors are ignored. */
  save(script: Script): void {
    try {
      const isUsed = this.#ownBytes > 0 && script.cachedDataRejected === false;
      if (isUsed && Date.now() - statSync(this.#file).mtimeMs < RENEW_AFTER_MS) return;
      const code = script.createCachedData();
      // In a long run, V8 forgets functions that are no longer called.
      if (isUsed && code.length <= this.#ownBytes) utimesSync(this.#file, new Date(), new Date());
      else this.#replace(code);
    } catch {
      // the next run tries again
    }
  }

  #replace(code: Buffer): void {
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32LE(this.#scriptCrc, 0);
    head.writeUInt32LE(crc32(code), 4);
    this.#removeLeftovers();
    const written = `${this.#file}.${process.pid}`;
    try {
      writeFileSync(written, Buffer.concat([head, code]), { mode: 0o600, flag: 'wx' });
      renameSync(written, this.#file);
    } finally {
      rmSync(written, { force: true });
    }
  }

  /** Removes files of processes that were killed while they wrote. In a container, all may have had the same number. */
  #removeLeftovers(): void {
    const dir = dirname(this.#file);
    for (const name of namesIn(dir)) {
      const pid = Number(WRITTEN_NAME.exec(name)?.[1]);
      if (pid === process.pid || (pid > 0 && !isRunning(pid))) rmSync(join(dir, name), { force: true });
    }
  }
}

/** Returns true if there is such a process, of any user. */
function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Returns the names in a folder; none if it cannot be read. */
function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

/** Reads a file of this user alone. Undefined if there is none, or if it is a link. */
function readOwn(file: string): Buffer | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(file, flags.O_RDONLY | flags.O_NOFOLLOW | flags.O_NONBLOCK); // does not wait for the writer of a pipe
    return isOfUserAlone(fstatSync(fd)) ? readFileSync(fd) : undefined;
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function readOrUndefined(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}
