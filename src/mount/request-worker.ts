import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { REQUEST_BYTES } from './protocol.ts';

/**
 * Passes the kernel's requests on, until the file system is unmounted. Each read waits for the next request, so it has
 * a thread of its own: Node cannot poll such a device, and its threads for files are few.
 */
const { fd } = workerData as { readonly fd: number };
const buffer = Buffer.alloc(REQUEST_BYTES);

/** Codes of a read after which the next one may go well: a request was taken back, or a signal came. */
const PASSING: ReadonlySet<string | undefined> = new Set(['ENOENT', 'EINTR', 'EAGAIN']);

function readRequests(): void {
  for (;;) {
    let length: number;
    try {
      length = readSync(fd, buffer);
    } catch (error) {
      if (PASSING.has((error as NodeJS.ErrnoException).code)) continue;
      return; // ENODEV: unmounted
    }
    if (length === 0) return;
    parentPort?.postMessage(Uint8Array.prototype.slice.call(buffer, 0, length));
  }
}

readRequests();
