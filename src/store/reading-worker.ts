import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import { workerData } from 'node:worker_threads';
import { answerQuestions } from '../bytes/thread-worker.ts';
import { isNarswarmError } from '../errors.ts';
import { readNar } from './hash-nar.ts';
import type { ReadAnswer, ReadingThreadData, ReadQuestion } from './reading-thread.ts';
import { systemCode } from '../disk/store-error.ts';

const { nice } = workerData as ReadingThreadData;
if (nice > 0) beNice();

answerQuestions(async ({ path, contents }: ReadQuestion): Promise<ReadAnswer> => {
  try {
    return { hashes: await readNar(path, contents) };
  } catch (error) {
    const { message, cause } = error as Error;
    if (isNarswarmError(error, 'NIX_MISSING')) return { missingProgram: message };
    return { unread: { reason: message, code: systemCode(cause) } };
  }
});

/**
 * Lowers the priority of this thread. On Linux each thread has its own nice value, which its programs inherit
 * (sched(7)).
 */
function beNice(): void {
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), nice);
  } catch {
    // not Linux, or forbidden: normal priority
  }
}
