import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { NarHashes } from './hash-nar.ts';

/** Below this a worker's start (40 ms) costs more than it saves. */
const WORTH_A_WORKER_BYTES = 64 * 1024 * 1024;

/** What a worker is asked, and answers. */
export interface HashRequest {
  readonly id: number;
  readonly path: string;
}
export type HashReply =
  | { readonly id: number; readonly hashes: NarHashes | undefined }
  | { readonly id: number; readonly failure: string };

/**
 * Hashes NAR files, as many at a time as there are processors, the largest first. Yields in the order in which they
 * are done. A file that cannot be read holds up none of the others.
 *
 * @param onUnread told of files that cannot be read, with the reason, or without one where there is no such file
 * @throws the signal's reason
 */
export async function* hashNars<T extends { readonly path: string; readonly sizeBytes: number }>(
  items: readonly T[],
  signal?: AbortSignal,
  onUnread?: (item: T, reason: string | undefined) => void,
): AsyncGenerator<{ item: T; hashes: NarHashes }> {
  const total = items.reduce((sum, item) => sum + item.sizeBytes, 0);
  if (total < WORTH_A_WORKER_BYTES) {
    const { hashNar } = await import('./hash-nar.ts');
    for (const item of items) {
      signal?.throwIfAborted();
      let reason: string | undefined;
      const hashes = await hashNar(item.path, signal).catch((error: unknown) => {
        signal?.throwIfAborted();
        reason = (error as Error).message;
        return undefined;
      });
      if (hashes === undefined) onUnread?.(item, reason);
      else yield { item, hashes };
    }
    return;
  }
  const waiting = items.map((item, id) => ({ item, id })).toSorted((a, b) => b.item.sizeBytes - a.item.sizeBytes);
  const stopped = new AbortController();
  const aborted = signal === undefined ? [] : [rejected(signal, stopped.signal)];
  const workers = Array.from({ length: Math.min(availableParallelism(), items.length) }, startWorker);
  try {
    const running = new Map<Worker, Promise<{ worker: Worker; reply: HashReply }>>();
    const give = (worker: Worker): void => {
      const next = waiting.shift();
      if (next === undefined) running.delete(worker);
      else running.set(worker, ask(worker, { id: next.id, path: next.item.path }));
    };
    for (const worker of workers) give(worker);
    while (running.size > 0) {
      signal?.throwIfAborted();
      const { worker, reply } = await Promise.race([...running.values(), ...aborted]);
      give(worker);
      const item = items[reply.id];
      if (item === undefined) continue;
      if ('failure' in reply) onUnread?.(item, reply.failure);
      else if (reply.hashes === undefined) onUnread?.(item, undefined);
      else yield { item, hashes: reply.hashes };
    }
  } finally {
    stopped.abort();
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

/** Rejects when `signal` aborts, so that nobody waits for a worker that reads a large file; never after `end` did. */
function rejected(signal: AbortSignal, end: AbortSignal): Promise<never> {
  const rejection = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true, signal: end });
  });
  rejection.catch(() => undefined); // it may come while a caller of the generator is busy
  return rejection;
}

/** The worker lies beside this file: .ts in a checkout, .js once built. */
function startWorker(): Worker {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new Worker(new URL(`./hash-worker.${extension}`, import.meta.url));
}

function ask(worker: Worker, request: HashRequest): Promise<{ worker: Worker; reply: HashReply }> {
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (reply: HashReply) => {
      worker.off('error', reject);
      resolve({ worker, reply });
    });
    worker.postMessage(request);
  });
}
