import { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** A socket without another side. */
export interface IdleSocket extends Socket {
  /** The bytes written to it. */
  readonly written: Buffer[];
  /** Delivers bytes as if the other side had sent them. */
  push(bytes: Buffer): boolean;
}

/** Makes a socket that takes everything that is written, and reads the bytes that a test pushes. */
export function idleSocket(): IdleSocket {
  const written: Buffer[] = [];
  const socket = new Duplex({
    read: () => undefined,
    write: (bytes: Buffer, _encoding, done) => {
      written.push(Buffer.from(bytes)); // lent
      done();
    },
  });
  return Object.assign(socket, { written, setNoDelay: () => socket }) as unknown as IdleSocket;
}
