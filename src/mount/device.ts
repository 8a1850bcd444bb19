import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, realpathSync, writeSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { workerBeside } from '../bytes/thread.ts';
import { systemCode } from '../disk/store-error.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { MAX_READ_BYTES } from './protocol.ts';

const DEVICE = '/dev/fuse';
/** As `mount` and other programs list it. */
const NAME = 'narswarm';
/** Codes for an answer that came too late: the request was withdrawn, or the file system is unmounted. */
const UNWANTED: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENODEV']);

/**
 * Unmounts when its stdin ends, so however this process ends, or at a SIGTERM. After a line on stdin, ends without
 * unmounting. Open files then fail, and no program waits for an answer. If it was unmounted with -l while files are open, what
 * is mounted there now is somebody else's, and the kernel is told to end this connection.
 */
const WATCH = `
unmount() {
  if grep -q " 0:$2 / " /proc/self/mountinfo; then umount -f -l "$1"; else echo 1 >"/sys/fs/fuse/connections/$2/abort"; fi
}
trap 'unmount "$@"; exit' TERM
read -r line || unmount "$@"`;

/** A file system that is mounted, and the kernel's requests to it. */
export class MountedDevice implements AsyncDisposable {
  readonly #fd: number;
  readonly #worker: Worker;
  readonly #watch: ChildProcess;
  readonly #ended: Promise<void>;
  #isUnmounted = false;
  readonly #atExit = (): void => void this.#watch.kill();

  private constructor(fd: number, watch: ChildProcess, onRequest: (bytes: Buffer) => void) {
    this.#fd = fd;
    this.#watch = watch;
    this.#worker = new Worker(workerBeside(import.meta.url, 'request-worker'), { workerData: { fd } });
    this.#worker.on('message', (bytes: Uint8Array) => onRequest(Buffer.from(bytes.buffer)));
    this.#ended = once(this.#worker, 'exit').then(() => {
      this.#isUnmounted = true;
      process.off('exit', this.#atExit);
      this.#watch.stdin?.end('\n');
      closeSync(fd);
    });
    // The thread waits in the kernel, and the end of the process would wait for it.
    process.on('exit', this.#atExit);
  }

  /**
   * Mounts a read-only file system on a folder.
   *
   * @param onRequest takes each request of the kernel, as bytes; must not throw
   * @throws MOUNT_FAILED if this machine, this user or the folder does not allow it
   */
  static async mount(dir: string, onRequest: (bytes: Buffer) => void): Promise<MountedDevice> {
    const fd = openDevice();
    try {
      await assertMountPoint(dir); // again: during a long walk, another process may have mounted there
      await runMount(dir, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const words = ['-c', WATCH, 'sh', dir, connectionOn(dir)];
    const watch = spawn('/bin/sh', words, { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    watch.on('error', () => undefined);
    watch.stdin?.on('error', () => undefined);
    watch.unref();
    return new MountedDevice(fd, watch, onRequest);
  }

  /** Resolves once it is unmounted, by this process or another. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** Sends an answer. */
  send(answer: Uint8Array): void {
    if (this.#isUnmounted) return;
    try {
      writeSync(this.#fd, answer);
    } catch (error) {
      if (!UNWANTED.has(systemCode(error))) throw error;
    }
  }

  /** Unmounts it, also if files are open. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isUnmounted) this.#watch.kill();
    await this.#ended;
  }
}

/** @throws MOUNT_FAILED if this system or this user cannot mount */
export function assertMayMount(): void {
  if (process.platform !== 'linux')
    throw refusal('narswarm mount needs Linux: it speaks the FUSE protocol of its kernel');
  if (process.getuid?.() !== 0)
    throw refusal(
      'only root can mount without a setuid helper: run it as root, as a service of the system, or for one shell of your own: unshare --user --map-root-user --mount sh',
    );
}

function openDevice(): number {
  assertMayMount();
  try {
    return openSync(DEVICE, constants.O_RDWR);
  } catch (error) {
    throw refusal(
      `cannot open ${DEVICE} (${systemCode(error)}): load the module fuse, and give a container that device`,
      error,
    );
  }
}

/** Runs `mount`, which passes our descriptor on to the kernel. */
async function runMount(dir: string, fd: number): Promise<void> {
  const options = `ro,nosuid,nodev,fd=3,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=${MAX_READ_BYTES}`;
  const child = spawn('mount', ['-i', '-t', 'fuse', '-o', options, NAME, dir], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
  });
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (some: string) => (text += some));
  const [status] = (await once(child, 'close').catch((error: unknown) => {
    throw refusal(`cannot run mount (${systemCode(error)}): it is part of util-linux`, error);
  })) as [number | null];
  if (status !== 0) throw refusal(`cannot mount on ${dir}: ${text.trim() || `mount ended with ${status}`}`);
}

/** Returns the number of the connection to a file system that was just mounted: that of its device (proc(5), mountinfo). */
function connectionOn(dir: string): string {
  const place = join(realpathSync(dirname(dir)), basename(dir)); // a look at the folder itself would wait for us
  const unescaped = (text = ''): string =>
    text.replaceAll(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(parseInt(code, 8)));
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const found = mounts.map((line) => line.split(' ')).findLast((fields) => unescaped(fields[4]) === place);
  return found?.[2]?.split(':')[1] ?? '';
}

/**
 * Makes sure that something can be mounted on a folder. Unmounts a mount that a killed process has left there.
 *
 * @throws MOUNT_FAILED if it is no empty folder
 */
export async function assertMountPoint(dir: string): Promise<void> {
  try {
    if (!(await lstat(dir)).isDirectory()) throw refusal(`${dir} is no folder: name an empty folder`);
    if ((await readdir(dir)).length > 0)
      throw (await isMounted(dir))
        ? refusal(`something is mounted on ${dir} already: umount ${dir}, or name another folder`)
        : refusal(`${dir} is not empty: name an empty folder`);
  } catch (error) {
    if (isNarswarmError(error)) throw error;
    const code = systemCode(error);
    if (code === 'ENOTCONN') {
      await once(spawn('umount', ['-l', dir], { stdio: 'ignore' }), 'close').catch(() => undefined);
      const isStillDead = await lstat(dir).then(
        () => false,
        () => true,
      );
      if (!isStillDead) return assertMountPoint(dir);
    }
    throw refusal(`cannot mount on ${dir} (${code}): ${WAYS_OUT[code ?? '']?.(dir) ?? 'check it'}`, error);
  }
}

const WAYS_OUT: Readonly<Partial<Record<string, (dir: string) => string>>> = {
  ENOENT: () => 'make it first',
  ENOTCONN: (dir) => `fusermount -u ${dir}`,
  ENOTDIR: () => 'a file is in the way, so name an empty folder',
};

/** Returns true if a folder is on another file system than the folder that it is in. */
async function isMounted(dir: string): Promise<boolean> {
  const [here, above] = await Promise.all([lstat(dir), lstat(dirname(dir))]);
  return here.dev !== above.dev;
}

function refusal(message: string, cause?: unknown): NarswarmError {
  return new NarswarmError('MOUNT_FAILED', message, { cause });
}
