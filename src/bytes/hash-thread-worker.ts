import { createHash, hash, type Hash } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import type { HashAnswer, HashTask } from './hash-thread.ts';

const streams = new Map<number, Hash>();

function streamOf(stream: number): Hash {
  let sha256 = streams.get(stream);
  if (sha256 === undefined) streams.set(stream, (sha256 = createHash('sha256')));
  return sha256;
}

function answer({ want, bytes, stream, place }: HashTask): string {
  const [first = new Uint8Array()] = bytes;
  switch (want) {
    case 'sha1':
      return hash('sha1', first, 'hex');
    case 'update':
      for (const chunk of bytes) streamOf(stream).update(chunk);
      return '';
    case 'digest': {
      const digest = streamOf(stream).digest('hex');
      streams.delete(stream);
      return digest;
    }
    case 'place': {
      const found = hash('sha256', first, 'hex');
      if (found !== place?.sha256) return found;
      writeFileSync(place.path, first); // nobody waits for this thread but whoever waits for the file
      renameSync(place.path, place.target);
      return found;
    }
    default:
      streams.delete(stream);
      return '';
  }
}

parentPort?.on('message', (task: HashTask) => {
  const reply = (message: HashAnswer): void => parentPort?.postMessage(message);
  try {
    reply({ id: task.id, digest: answer(task) });
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    reply({ id: task.id, failure: { message, code } });
  }
});
