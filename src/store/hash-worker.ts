import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { basename } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { isNarswarmError } from '../errors.ts';
import { readNar } from './hash-nar.ts';
import type { HashReply, HashRequest, HashThreadData } from './hash-thread.ts';
import { systemCode } from '../disk/store-error.ts';

const { isIdlePriority } = workerData as HashThreadData;
if (isIdlePriority) beNice();

parentPort?.on('message', ({ path, contents }: HashRequest) => {
  const reply = (message: HashReply): void => parentPort?.postMessage(message);
  readNar(path, contents).then(
    (hashes) => reply({ hashes }),
    (error: Error) => {
      const { message } = error;
      if (isNarswarmError(error, 'NIX_MISSING')) reply({ missingProgram: message });
      else reply({ unread: { reason: message, code: systemCode(error.cause) } });
    },
  );
});

/** Linux has a nice value a thread, which the programs that it starts inherit (sched(7)). */
function beNice(): void {
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), constants.priority.PRIORITY_LOW);
  } catch {
    // not Linux, or forbidden: it competes like any other
  }
}
