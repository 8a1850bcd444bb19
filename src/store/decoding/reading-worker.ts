import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { workerData } from 'node:worker_threads';
import { answerQuestions } from '../../bytes/thread-worker.ts';
import { isNarswarmError } from '../../errors.ts';
import { readNar } from '../hashing/hash-nar.ts';
import { lowerPriority } from '../lower-priority.ts';
import type { ReadAnswer, ReadingThreadData, ReadQuestion } from './reading-thread.ts';
import { systemCode } from '../../disk/store-error.ts';

/**
 * Limit on the nice value of this thread. It shares locks with the others: that of the memory while it starts a program,
 * and its end is waited for. With nice 19 beside ten busy programs, a daemon stood still for seconds, and took ten to end.
 * Programs take most of the time, and nobody waits for their locks.
 */
const MOST_NICE = 5;

const { nice } = workerData as ReadingThreadData;
if (nice > 0) beNice(Math.min(nice, MOST_NICE));

answerQuestions(async ({ path, contents }: ReadQuestion): Promise<ReadAnswer> => {
  try {
    return { hashes: await readNar(path, contents && { ...contents, nice }) };
  } catch (error) {
    const { message, cause } = error as Error;
    if (isNarswarmError(error, 'NIX_MISSING')) return { missingProgram: message };
    return { unread: { reason: message, code: systemCode(cause) } };
  }
});

/** Lowers the priority of this thread. On Linux each thread has its own nice value (sched(7)). */
function beNice(value: number): void {
  try {
    lowerPriority(Number(basename(readlinkSync('/proc/thread-self'))), value);
  } catch {
    // not Linux
  }
}
