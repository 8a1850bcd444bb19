/** A directory for a run, in memory where there is room: the benchmark is not one of disks. */
import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Workspace extends AsyncDisposable {
  readonly dir: string;
  readonly isInMemory: boolean;
}

const SHARED_MEMORY = '/dev/shm';

/**
 * Makes the directory; it is removed at the end.
 *
 * @param neededBytes what the run writes at most; with less room in memory, the system's temporary directory is taken
 * @param options.keep leaves it in place
 */
export async function makeWorkspace(neededBytes: number, options: { readonly keep: boolean }): Promise<Workspace> {
  const memory = await statfs(SHARED_MEMORY).catch(() => undefined);
  const isInMemory = memory !== undefined && memory.bavail * memory.bsize > neededBytes;
  const dir = await mkdtemp(join(isInMemory ? SHARED_MEMORY : tmpdir(), 'narswarm-bench-'));
  const remove = (): Promise<void> => (options.keep ? Promise.resolve() : rm(dir, { recursive: true, force: true }));
  return { dir, isInMemory, [Symbol.asyncDispose]: remove };
}
