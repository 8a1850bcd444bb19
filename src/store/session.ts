import { mkdir, readFile, readdir, readlink, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { storeError, systemCode } from './store-error.ts';
import type { FileStore } from './file-store.ts';

/**
 * The folder in which one process keeps its partial files: `narswarm/partial/<owner>/`.
 *
 * A folder a process means that two fetches never write to one file, without locks that a crash leaves behind.
 * What a dead process left is taken over by renaming its folder's files: the rename decides between two heirs.
 */
export class PartialSession implements AsyncDisposable {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /**
   * Makes this process's folder and takes over the partial files of processes that are gone.
   *
   * @param kind what the folder is below, so that nobody inherits what he cannot go on with
   */
  static async open(store: FileStore, kind: 'partial' | 'export' = 'partial'): Promise<PartialSession> {
    const parent = join(store.stateDir, kind);
    const owner = await currentOwner();
    const session = new PartialSession(join(parent, `${owner}-${nextNumber++}`));
    try {
      await mkdir(session.dir, { recursive: true });
      for (const name of await readdir(parent)) {
        if (await isGone(name, owner)) await session.#inherit(join(parent, name));
      }
    } catch (error) {
      throw storeError(error, session.dir);
    }
    return session;
  }

  /** Path for the partial file of that name in this session. */
  path(name: string): string {
    return join(this.dir, name);
  }

  /** Removes the folder if nothing is left in it; partial files stay for the next run. */
  async [Symbol.asyncDispose](): Promise<void> {
    const left = await readdir(this.dir).catch(() => ['?']);
    if (left.length === 0) await rm(this.dir, { recursive: true, force: true });
  }

  async #inherit(from: string): Promise<void> {
    const names = await readdir(from).catch(() => []);
    for (const name of names) {
      await rename(join(from, name), this.path(name)).catch((error: unknown) => {
        if (systemCode(error) !== 'ENOENT') throw error; // another heir was faster
      });
    }
    await rm(from, { recursive: true, force: true });
  }
}

let nextNumber = 1;

/** `<machine>-<boot>-<pid namespace>-<pid>-<start time>`: names a process so that a later one with the same pid is another. */
async function currentOwner(): Promise<string> {
  return `${await machine()}-${process.pid}-${(await startTimeOf(process.pid)) ?? '0'}`;
}

async function machine(): Promise<string> {
  const id = await readFile('/etc/machine-id', 'utf8').catch(() => 'unknown');
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown');
  const namespace = await readlink('/proc/self/ns/pid').catch(() => '');
  return [id.trim() || 'unknown', boot.trim().replaceAll('-', ''), namespace.replaceAll(/\D/g, '') || '0'].join('-');
}

/** Clock ticks after boot at which a process started (proc(5), field 22 of stat), or undefined where it is gone. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19];
}

/** True where the process that owns a folder certainly runs no more; a folder of another container is left alone. */
async function isGone(name: string, self: string): Promise<boolean> {
  const [id, boot, namespace, pid, start] = name.split('-');
  const [ownId, ownBoot, ownNamespace] = self.split('-');
  if (id === undefined || boot === undefined || namespace === undefined || pid === undefined || start === undefined)
    return false;
  if (id !== ownId) return false; // two machines may share a store over the network
  if (boot !== ownBoot) return true;
  if (namespace !== ownNamespace) return false;
  return (await startTimeOf(Number(pid))) !== start;
}
