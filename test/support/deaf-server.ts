/** A server whose system answers no connection: its queue is full until the server hears. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';

export interface DeafServer extends AsyncDisposable {
  readonly port: number;
  /** Lets connections in, from the next packet of each on. */
  hear(): void;
}

/** The thread listens, and then waits: nobody accepts. */
const PROGRAM = `
const { parentPort, workerData: { host, port, ear } } = require('node:worker_threads');
const server = require('node:net').createServer((socket) => socket.on('error', () => undefined).resume());
server.listen({ host, port, backlog: 1 }, () => {
  parentPort.postMessage(server.address().port);
  Atomics.wait(ear, 0, 0); // the message is sent nevertheless
});
`;

export async function startDeafServer(host: string, port: number): Promise<DeafServer> {
  const ear = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(PROGRAM, { eval: true, workerData: { host, port, ear } });
  const [bound] = (await once(worker, 'message')) as [number];
  const waiting: Socket[] = [];
  // The system lets two connections wait behind a backlog of one.
  for (let at = 0; at < 2; at++) {
    const socket = connect(bound, host).on('error', () => undefined);
    waiting.push(socket);
    await once(socket, 'connect');
  }
  const hear = (): void => {
    Atomics.store(ear, 0, 1);
    Atomics.notify(ear, 0);
  };
  return {
    port: bound,
    hear,
    async [Symbol.asyncDispose]() {
      hear();
      for (const socket of waiting) socket.destroy();
      await worker.terminate();
    },
  };
}
