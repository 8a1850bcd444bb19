import { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** A socket to nobody: takes everything that is written, and reads what a test pushes. */
export function idleSocket(): Socket & { push(bytes: Buffer): boolean } {
  const socket = new Duplex({
    read: () => undefined,
    write: (_bytes, _encoding, done) => done(),
  });
  return Object.assign(socket, { setNoDelay: () => socket }) as unknown as Socket & { push(bytes: Buffer): boolean };
}
