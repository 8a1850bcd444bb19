import { createHash, hash, type Hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import type { HashAnswer, HashTask } from './hash-thread.ts';

const streams = new Map<number, Hash>();

function streamOf(stream: number): Hash {
  let sha256 = streams.get(stream);
  if (sha256 === undefined) streams.set(stream, (sha256 = createHash('sha256')));
  return sha256;
}

function answer({ want, bytes, stream }: HashTask): string {
  switch (want) {
    case 'sha1':
      return hash('sha1', bytes[0] ?? new Uint8Array(), 'hex');
    case 'update':
      for (const chunk of bytes) streamOf(stream).update(chunk);
      return '';
    case 'digest': {
      const digest = streamOf(stream).digest('hex');
      streams.delete(stream);
      return digest;
    }
    default:
      streams.delete(stream);
      return '';
  }
}

parentPort?.on('message', (task: HashTask) => {
  parentPort?.postMessage({ id: task.id, digest: answer(task) } satisfies HashAnswer);
});
