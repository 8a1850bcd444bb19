import { parentPort } from 'node:worker_threads';
import { hashNar } from './hash-nar.ts';
import type { HashReply, HashRequest } from './hash-pool.ts';

parentPort?.on('message', ({ path }: HashRequest) => {
  const reply = (message: HashReply): void => parentPort?.postMessage(message);
  hashNar(path).then(
    (hashes) => reply({ hashes }),
    (error: Error) => reply({ failure: error.message }),
  );
});
