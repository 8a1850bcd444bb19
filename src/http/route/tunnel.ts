/** Tunnels through proxies: the exchange before a connection leads on to its target. */
import type { Socket } from 'node:net';
import { hungUp } from '../transfer/failure.ts';
import type { Endpoint } from './route.ts';

/**
 * Asks the proxy at the other end of a connection to forward it. @throws errors of the socket, and refusals of the
 * proxy
 */
export type Tunnel = (socket: Socket, target: Endpoint) => Promise<void>;

/**
 * Receives one message of a proxy. Leaves the bytes behind it in the socket, which is paused.
 *
 * @param lengthOf returns the length of the message that begins with these bytes; undefined while they are too few
 */
export async function receive(socket: Socket, lengthOf: (bytes: Buffer) => number | undefined): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  let bytes: Buffer = Buffer.alloc(0);
  const take = (chunk: Buffer): void => {
    bytes = Buffer.concat([bytes, chunk]);
    try {
      const length = lengthOf(bytes);
      if (length === undefined || bytes.length < length) return;
      socket.off('data', take).pause();
      if (bytes.length > length) socket.unshift(bytes.subarray(length));
      resolve(bytes.subarray(0, length));
    } catch (error) {
      reject(error);
    }
  };
  const close = (): void => reject(hungUp());
  socket.on('data', take).on('error', reject).on('close', close).resume();
  if (socket.destroyed) close();
  try {
    return await promise;
  } finally {
    socket.off('data', take).off('error', reject).off('close', close);
  }
}
