import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { NarswarmError } from '../errors.ts';
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
 * are done; a file that has gone meanwhile is passed over.
 *
 * @throws STORE_UNWRITABLE where a file cannot be read
 */
export async function* hashNars<T extends { readonly path: string; readonly sizeBytes: number }>(
  items: readonly T[],
  signal?: AbortSignal,
): AsyncGenerator<{ item: T; hashes: NarHashes }> {
  const total = items.reduce((sum, item) => sum + item.sizeBytes, 0);
  if (total < WORTH_A_WORKER_BYTES) {
    const { hashNar } = await import('./hash-nar.ts');
    for (const item of items) {
      const hashes = await hashNar(item.path, signal);
      if (hashes !== undefined) yield { item, hashes };
    }
    return;
  }
  const waiting = items.map((item, id) => ({ item, id })).toSorted((a, b) => b.item.sizeBytes - a.item.sizeBytes);
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
      const { worker, reply } = await Promise.race(running.values());
      give(worker);
      const item = items[reply.id];
      if ('failure' in reply) throw new NarswarmError('STORE_UNWRITABLE', reply.failure);
      if (item !== undefined && reply.hashes !== undefined) yield { item, hashes: reply.hashes };
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
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
