/** The threads of this process that read in the background, and files at which they stand still. */
import { constants } from 'node:fs';
import { open, readdir, readFile, type FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** Returns the nice values of this process's threads (proc(5)). */
export async function niceValues(): Promise<number[]> {
  const threads = await readdir('/proc/self/task');
  const stats = await Promise.all(
    threads.map((id) => readFile(`/proc/self/task/${id}/stat`, 'latin1').catch(() => '')),
  );
  return stats.map((stat) => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]));
}

/** Opens a pipe once somebody else has opened it for reading. */
export async function openedForWriting(pipe: string, until: AbortSignal): Promise<FileHandle> {
  for (;;) {
    const writer = await open(pipe, constants.O_WRONLY | constants.O_NONBLOCK).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
    });
    if (writer !== undefined) return writer;
    until.throwIfAborted();
    await sleep(5);
  }
}
